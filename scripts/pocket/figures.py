"""Drawn figures for the nudity concept: a wooden artist's mannequin, bare or dressed.

A pose is a set of joint angles in degrees (0 to the right, 90 down); limbs are capsules along them. The
bare figure shows its ball joints and seams; the dressed one is the same body with hair, clothes and shoes.
Safe for work by construction.
"""

from __future__ import annotations

import math
import random

Point = tuple[float, float]

# Upper and lower limb angle: left arm, right arm, left leg, right leg.
POSES: dict[str, tuple[tuple[int, int], ...]] = {
    "standing": ((100, 95), (80, 85), (97, 93), (83, 87)),
    "arms up": ((235, 260), (305, 280), (100, 95), (80, 85)),
    "walking": ((125, 100), (60, 30), (120, 115), (65, 95)),
    "waving": ((100, 90), (320, 275), (95, 92), (85, 88)),
    "sitting": ((110, 60), (70, 120), (160, 80), (20, 100)),
}
TONES = {
    "#e0b080": "#b5814f",
    "#c98f5a": "#9a6635",
    "#f0cfa8": "#cfa172",
    "#8d5a34": "#643c1e",
    "#d9a066": "#a87440",
}
TOPS = ("#d83a3a", "#2f6fd0", "#2fa05a", "#8a45b8", "#f08a24")
TROUSERS = ("#2b3a67", "#4a4a4a", "#6b4a2b", "#1f6f78")
HAIR = ("#3a2a1a", "#111111", "#a0522d", "#d0b050")
LIMB_WIDTH = {"noto": 12.0, "fluent": 15.0, "ink": 12.5}


def figure(random_state: random.Random, *, nude: bool, family: str) -> str:
    """An SVG document of 128 by 128 units; ``family`` is an emoji family or ``"ink"``."""
    ink = family == "ink"
    pose = POSES[random_state.choice(list(POSES))]
    skin = random_state.choice(list(TONES))
    shade = TONES[skin]
    top, trousers, hair = (random_state.choice(colours) for colours in (TOPS, TROUSERS, HAIR))
    if ink:
        skin, shade, top, trousers, hair = "#ffffff", "#111111", "#111111", "#111111", "#111111"
    dress = not nude and random_state.random() < 0.4
    width = LIMB_WIDTH[family]
    fill = "url(#body)" if family in ("noto", "fluent") else skin
    outline = ' stroke="#111111" stroke-width="3"' if ink else ""
    parts: list[str] = []

    def jitter(angle: float) -> float:
        return math.radians(angle + random_state.uniform(-9, 9))

    def along(start: Point, angle: float, length: float) -> Point:
        return start[0] + length * math.cos(angle), start[1] + length * math.sin(angle)

    def capsule(start: Point, end: Point, thickness: float, colour: str) -> None:
        ends = f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
        ends += ' stroke-linecap="round"'
        if ink:
            parts.append(f'<line {ends} stroke="#111111" stroke-width="{thickness + 5}"/>')
        parts.append(f'<line {ends} stroke="{colour}" stroke-width="{thickness}"/>')

    def ball(centre: Point, radius: float, colour: str) -> None:
        parts.append(f'<circle cx="{centre[0]:.1f}" cy="{centre[1]:.1f}" r="{radius:.1f}" fill="{colour}"/>')

    def path(line: str, style: str) -> None:
        parts.append(f'<path d="{line}" {style}/>')

    left_arm, right_arm, left_leg, right_leg = pose
    for hip, angles in (((55.0, 76.0), left_leg), ((73.0, 76.0), right_leg)):
        upper, lower = (jitter(angle) for angle in angles)
        knee = along(hip, upper, 21)
        foot = along(knee, lower, 21)
        capsule(knee, foot, width - 1, skin)
        capsule(hip, knee, width, skin)
        if nude:
            for joint, radius in ((knee, 0.42), (hip, 0.45), (foot, 0.4)):
                ball(joint, width * radius, shade)
        elif dress:
            ball(foot, width * 0.55, top)
        else:
            capsule(knee, foot, width + 1, trousers)
            capsule(hip, knee, width + 3, trousers)
            ball(foot, width * 0.55, "#222222")
    path("M46 38 Q64 33 82 38 L78 58 Q74 64 76 78 Q64 84 52 78 Q54 64 50 58 Z", f'fill="{fill}"{outline}')
    if nude:
        path("M51 60 Q64 66 77 60", f'stroke="{shade}" stroke-width="2.5" fill="none"')
        path("M64 40 L64 60", f'stroke="{shade}" stroke-width="1.5"')
        ball((64, 70), 1.8, shade)
    elif dress:
        path("M47 37 Q64 42 81 37 L77 60 L90 96 Q64 102 38 96 L51 60 Z", f'fill="{top}"')
    else:
        path("M45 37 Q64 42 83 37 L79 60 L78 80 Q64 85 50 80 L49 60 Z", f'fill="{top}"')
    for shoulder, angles in (((47.0, 43.0), left_arm), ((81.0, 43.0), right_arm)):
        upper, lower = (jitter(angle) for angle in angles)
        elbow = along(shoulder, upper, 17)
        hand = along(elbow, lower, 17)
        capsule(shoulder, elbow, width - 2, skin)
        capsule(elbow, hand, width - 3, skin)
        if nude:
            for joint, radius in ((shoulder, 0.42), (elbow, 0.38), (hand, 0.36)):
                ball(joint, width * radius, shade)
        else:
            capsule(shoulder, along(shoulder, upper, 15), width + 1, top)
    parts.append(f'<rect x="60" y="28" width="8" height="10" fill="{shade if nude else skin}"/>')
    parts.append(f'<ellipse cx="64" cy="20" rx="11.5" ry="13.5" fill="{fill}"{outline}/>')
    if not nude:
        path("M51 20 Q50 2 64 2 Q78 2 77 20 Q72 10 64 11 Q56 10 51 20Z", f'fill="{hair}"')
    end = shade if family == "fluent" else skin
    stops = f'<stop offset="0" stop-color="{skin}"/><stop offset="1" stop-color="{end}"/>'
    gradient = f'<linearGradient id="body" x1="0" y1="0" x2="1" y2="1">{stops}</linearGradient>'
    body = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128"><defs>{gradient}</defs>{body}</svg>'
    )
