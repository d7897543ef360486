# clang++: the same file as for g++.
needs clang++-14
cp "$parts/templates.cpp" .
run clang++-14 -std=c++20 -O1 -S templates.cpp
sha256sum templates.s
