# z3: a pigeonhole problem (unsatisfiable), queens (one asks whether there is a placement), and
# arithmetic on bit vectors.
needs z3
{
    echo '(set-logic QF_UF)'
    for p in {1..8}; do for h in {1..7}; do echo "(declare-const p${p}_$h Bool)"; done; done
    for p in {1..8}; do
        echo "(assert (or$(for h in {1..7}; do echo -n " p${p}_$h"; done)))"
        for h in {1..7}; do
            for ((q = p + 1; q <= 8; q++)); do echo "(assert (not (and p${p}_$h p${q}_$h)))"; done
        done
    done
    echo '(check-sat)'
} >pigeons.smt2
{
    echo '(set-logic QF_LIA)'
    for i in {1..12}; do echo "(declare-const q$i Int) (assert (and (>= q$i 1) (<= q$i 12)))"; done
    for i in {1..12}; do
        for ((j = i + 1; j <= 12; j++)); do
            echo "(assert (distinct q$i q$j (+ q$j $((j - i)))))"
            echo "(assert (not (= q$i (- q$j $((j - i))))))"
        done
    done
    echo '(check-sat)'
} >queens.smt2
cat >bits.smt2 <<'SMT'
(set-logic QF_BV)
(declare-const x (_ BitVec 20))
(declare-const y (_ BitVec 20))
(push)
(assert (not (= (bvmul x (bvadd y #x00001)) (bvadd (bvmul x y) x))))
(assert (bvult x #x00400))
(assert (bvult y #x00400))
(check-sat)
(pop)
(assert (= (bvmul ((_ zero_extend 20) x) ((_ zero_extend 20) y)) #x00008c5fef))
(assert (bvult #x00001 x))
(assert (bvult x y))
(check-sat)
SMT
for problem in pigeons queens bits; do
    run z3 "$problem.smt2"
done
