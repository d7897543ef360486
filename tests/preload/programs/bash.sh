# bash: tables, strings, recursion, pipes, subshells and a coprocess.
needs bash
cat >work.bash <<'SCRIPT'
declare -A count
declare -a list
for ((i = 0; i < 30000; i++)); do
    word="w$((i * 7919 % 1009))"
    count[$word]=$((${count[$word]:-0} + i))
    list[i]=${word^^}-${word//w/x}
done
echo "${#count[@]} words, w17=${count[w17]}, list[777]=${list[777]}"
unset 'list[5]' count

text=
for ((i = 0; i < 3000; i++)); do text+="line $i of a text that grows; "; done
echo "${#text} ${text:4000:40} ${text//[^7]/}" | tail -c 100

fib() {
    if (($1 < 2)); then echo "$1"; else echo $(($(fib $(($1 - 1))) + $(fib $(($1 - 2))))); fi
}
fib 9

total=0
while read -r key value; do
    ((total += ${#key} * value))
done < <(for i in {1..5000}; do echo "k $i"; done)
echo "$total"

coproc upper { while read -r line; do echo "${line^^}"; done; }
for i in {1..500}; do echo "message $i" >&"${upper[1]}"; read -r reply <&"${upper[0]}"; done
echo "$reply"

pattern='([0-9]+)-x([0-9]+)'
[[ ${list[99]} =~ $pattern ]] && echo "${BASH_REMATCH[@]}"
trap 'echo at exit' EXIT
printf '%s\n' {a..f}{1..9} | sort -r | head -n 3
SCRIPT
run bash work.bash
