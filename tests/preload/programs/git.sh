# git: a repository with some hundred commits, branches and a merge; log, blame, gc, fsck, clone.
needs git
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org
export GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.org

# at TIME COMMAND... - COMMAND with a commit date of its own.
at() {
    export GIT_AUTHOR_DATE="$((1600000000 + $1)) +0000"
    export GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE
    run "${@:2}"
}

run git init -q -b main repo
cd repo
git config pack.threads 2
git config gc.auto 0
mkdir sources
for round in {1..30}; do
    for file in {1..12}; do
        seq $((round * file)) $((round * file + 400)) >"sources/file$file"
    done
    run git add .
    at "$round" git commit -q -m "change $round"
done
run git checkout -q -b side HEAD~10
echo other >other
run git add other
at 100 git commit -q -m other
run git checkout -q main
at 200 git merge -q --no-edit side
run git log --stat --format='%H %T %s' | sha256sum
run git blame sources/file7 | sha256sum
run git diff HEAD~20 HEAD | sha256sum
run git gc -q --aggressive --prune=now
run git fsck --full --strict 2>&1 | grep -v '^Checking' || true
run git rev-list --objects --all | sort | sha256sum
run git cat-file --batch-check --batch-all-objects | sort | cut -c 1-60 | sha256sum
cd ..
run git clone -q --no-local repo copy
run git -C copy rev-parse HEAD
