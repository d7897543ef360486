# cmake: a script with lists, strings and JSON; then a project configured, built
# with link-time optimisation, and run.
needs cmake ninja cc
cat >work.cmake <<'CMAKE'
set(list)
foreach(i RANGE 4000)
    math(EXPR n "(${i} * 7919) % 5003")
    list(APPEND list "item${n}")
endforeach()
list(SORT list COMPARE NATURAL)
list(TRANSFORM list REPLACE "item([0-9])" "\\1-")
string(JOIN "," text ${list})
string(REGEX MATCHALL "7-[0-9]+" sevens "${text}")
list(LENGTH sevens count)
string(SHA256 hash "${text}")
message(NOTICE "${count} ${hash}")
set(json "{}")
foreach(i RANGE 150)
    string(JSON json SET "${json}" "k${i}" "[${i}, \"v${i}\"]")
endforeach()
string(JSON value GET "${json}" k99 1)
message(NOTICE "${value}")
file(WRITE out.txt "${text}")
file(SHA512 out.txt hash)
message(NOTICE "${hash}")
CMAKE
run cmake -P work.cmake 2>&1
mkdir project
cat >project/CMakeLists.txt <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(small LANGUAGES C)
set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
foreach(i RANGE 1 12)
    file(WRITE ${CMAKE_BINARY_DIR}/f${i}.c "int f${i}(void) { return ${i}; }\n")
    list(APPEND sources ${CMAKE_BINARY_DIR}/f${i}.c)
    string(APPEND declare "int f${i}(void);\n")
    string(APPEND sum " + f${i}()")
endforeach()
file(WRITE ${CMAKE_BINARY_DIR}/main.c
     "#include <stdio.h>\n${declare}int main(void) { printf(\"%d\\n\", 0${sum}); }\n")
add_executable(small ${CMAKE_BINARY_DIR}/main.c ${sources})
CMAKE
run cmake -S project -B build -G Ninja >configure.log
run cmake --build build >build.log
grep -c Building build.log
run build/small
