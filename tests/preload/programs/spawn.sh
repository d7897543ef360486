# A program starts others by vfork, posix_spawn, popen, system and fork while four of its threads
# allocate and free.
needs cc
cc -O1 -pthread "$parts/spawn.c" -o spawn
run ./spawn
