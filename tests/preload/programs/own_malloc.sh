# A program that defines malloc itself: its own malloc must serve it and libc; that it ends well on
# Tarn shows that no block of one allocator reaches the other.
needs g++
g++ -std=c++20 -O1 -pthread "$parts/own_malloc.cpp" -o own_malloc
run ./own_malloc
