# A C++ library loaded, used from two threads and unloaded, 200 times over.
needs g++
g++ -std=c++20 -O1 -shared -fPIC -fno-gnu-unique "$parts/plugin.cpp" -o plugin.so
g++ -std=c++20 -O1 -pthread "$parts/dlopen_loop.cpp" -o dlopen_loop
run ./dlopen_loop
