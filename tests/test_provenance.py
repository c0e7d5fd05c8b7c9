from unlearn import provenance


def test_a_folder_of_weights_is_known_by_its_content(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "unet").mkdir(parents=True)
        (tmp_path / name / "unet" / "weights").write_bytes(bytes(range(256)) * 4096)
    first = provenance.digest(tmp_path / "a")
    assert provenance.digest(tmp_path / "b") == first
    (tmp_path / "b" / "unet" / "weights").write_bytes(bytes(reversed(range(256))) * 4096)
    assert provenance.digest(tmp_path / "b") != first
    (tmp_path / "a" / "unet" / "weights").rename(tmp_path / "a" / "unet" / "other")
    assert provenance.digest(tmp_path / "a") != first


def test_a_development_version_follows_the_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    monkeypatch.setattr(provenance, "SOURCES", ("methods", "seeding.py"))
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "esd.py").write_text("a = 1")
    (tmp_path / "seeding.py").write_text("")

    def code(version):
        provenance.code.cache_clear()
        monkeypatch.setattr(provenance, "__version__", version)
        return provenance.code()

    first, release = code("0.1.0.dev0"), code("0.1.0")
    (tmp_path / "report.py").write_text("other")
    assert code("0.1.0.dev0") == first
    (tmp_path / "methods" / "esd.py").write_text("a = 2")
    assert code("0.1.0.dev0") != first
    assert code("0.1.0") == release == "0.1.0"
    provenance.code.cache_clear()


def test_every_source_is_there():
    assert all((provenance.PACKAGE / part).exists() for part in provenance.SOURCES)
