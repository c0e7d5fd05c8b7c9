"""Small mistakes put into the code that scores, one at a time: the tests have to see them.

The nearest tools are no fit. mutmut puts switches into the functions, so that the syntax trees that
fingerprints are made of are no longer those of the code, and leaves out whatever stands in no function;
cosmic-ray starts the tests anew for each mistake, which costs the seconds that the libraries take to import.
"""
