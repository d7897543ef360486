# g++: compiles a file full of templates, assembles, links and runs the program.
needs g++ objdump
cp "$parts/templates.cpp" .
run g++ -std=c++20 -O1 -S templates.cpp
sha256sum templates.s
run g++ -pthread templates.s -o templates
run objdump -d --no-show-raw-insn templates | sha256sum
run ./templates
