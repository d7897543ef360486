"""cases - what mode debug must report of each bug in programs/."""
import signal
from dataclasses import dataclass, field

ABORT = -signal.SIGABRT
OVER = "heap-buffer-overflow: wrote "
UNDER = "heap-buffer-underflow: wrote "
AFTER = "heap-use-after-free: wrote "
MISMATCH = "alloc-dealloc-mismatch: "


@dataclass
class Report:
    signature: str
    by: str = "free"     # a regular expression
    threads: str = "0+"  # of found, allocated, freed; equal digits: the same; a regular expression


@dataclass
class Case:
    reports: list                  # all; the first alone where it ends the program
    options: str = ""              # TARN_OPTIONS; with on_misuse there is no second run
    ends: int = ABORT              # exit status, or minus the signal, after the first report
    stdout: list = field(default_factory=list)         # lines that must be there then
    warned_stdout: list = field(default_factory=list)  # and where the program goes on
    runs: str = ""                 # the bug's name, if not the case's
    racing: bool = False           # threads report at once: more than the first may come
    goes_on: bool = False          # after the first report, by itself
    last_line: str = ""            # of stderr, beside the reports; a regular expression
    stacks: str = "found allocated freed"  # that are not empty
    mode: str = "debug"
    runs_of_text: int = 1          # all must report


def one(signature, by="free", threads="0+", **more):
    return Case([Report(signature, by, threads)], **more)


def at_exit(signature, **more):
    """Found when the program ends."""
    return one(signature, "exit", **more)


def none(**more):
    return Case([], ends=0, stdout=["survived"], **more)


OVERFLOW = {
    "strcpy_one": one(OVER + "1 byte past the end of 26-byte block"),
    "memset_one": one(OVER + "1 byte past the end of 100-byte block"),
    "loop_one": one(OVER + "4 bytes past the end of 40-byte block"),
    "many": one(OVER + "40 bytes past the end of 40-byte block"),
    "all_of_the_guard": one(OVER + "at least 64 bytes past the end of 48-byte block"),
    "far": one(OVER + "4 bytes, 48 bytes past the end of 28-byte block"),
    "with_gaps": one(OVER + "at least 4 bytes past the end of 12-byte block"),
    "same_bytes": one(OVER + "1 byte, 1 byte past the end of 20-byte block"),
    "large": one(OVER + "1 byte past the end of 3145728-byte block"),
    "empty": one(OVER + "1 byte past the end of 0-byte block"),
    "sprintf_number": one(OVER + "2 bytes past the end of 8-byte block"),
    "calloc_two_many": one(OVER + "4 bytes past the end of 30-byte block"),
    "calloc_zero": one(OVER + "3 bytes past the end of 33-byte block"),
    "flexible_array": one(OVER + "1 byte past the end of 20-byte block"),
    "struct_too_small": one(OVER + "40 bytes past the end of 8-byte block"),
    "strlen_without_end": one(OVER + "1 byte past the end of 26-byte block"),
    "realloc_shrunk": one(OVER + "2 bytes past the end of 120-byte block"),
    "realloc_finds": one(OVER + "1 byte past the end of 30-byte block", "realloc"),
    "realloc_large_shrunk": one(OVER + "1 byte past the end of 1048476-byte block"),
    "realloc_large_grown": one(OVER + "1 byte past the end of 1087576-byte block"),
    "usable_size": one(OVER + "3 bytes past the end of 13-byte block"),
    "posix_memalign_one": one(OVER + "1 byte past the end of 1000-byte block"),
    "aligned_alloc_one": one(OVER + "1 byte past the end of 192-byte block"),
    "aligned_to_a_page": one(OVER + "at least 1 byte, 63 bytes past the end of 8192-byte block"),
    "strdup_one": one(OVER + "1 byte past the end of 13-byte block"),
    "strndup_one": one(OVER + "1 byte past the end of 7-byte block"),
    "asprintf_one": one(OVER + "at least 73 bytes past the end of 7-byte block"),
    "getline_one": one(OVER + "1 byte past the end of 120-byte block"),
    "two_blocks": Case([Report(OVER + "1 byte past the end of 24-byte block"),
                        Report(OVER + "1 byte, 1 byte past the end of 72-byte block")]),
    "both_sides": Case([Report(UNDER + "1 byte, 1 byte before the start of 24-byte block"),
                        Report(OVER + "1 byte past the end of 24-byte block")]),
    "once_alone": one(OVER + "1 byte past the end of 24-byte block"),

    # What the options change, and what they don't.
    "exit_code": one(OVER + "1 byte past the end of 26-byte block", runs="strcpy_one",
                     options="exit_code=9", ends=9),
    "ignored": none(runs="strcpy_one", options="on_misuse=ignore"),
    "keyed_guards": one(OVER + "1 byte past the end of 26-byte block", runs="strcpy_one",
                        options="guards=keyed"),
    "filled_with_zero": one(OVER + "1 byte past the end of 26-byte block", runs="strcpy_one",
                            options="fill=zero"),
    "stacks_of_libgcc": one(OVER + "1 byte past the end of 26-byte block", runs="strcpy_one",
                            options="stacks=libgcc"),
    "no_stacks": one(OVER + "1 byte past the end of 26-byte block", runs="strcpy_one",
                     options="stack_frames=0", stacks="found"),
}

UNDERFLOW = {
    "one": one(UNDER + "1 byte, 1 byte before the start of 24-byte block"),
    "index_minus_one": one(UNDER + "4 bytes, 4 bytes before the start of 40-byte block"),
    "eight": one(UNDER + "8 bytes, 8 bytes before the start of 500-byte block"),
    "tag": one(UNDER + "at least 1 byte, 16 bytes before the start of 500-byte block"),
    "sixteen": one(UNDER + "at least 16 bytes, 16 bytes before the start of 64-byte block"),
    "tag_found_by_realloc": one(
        UNDER + "at least 16 bytes, 16 bytes before the start of 64-byte block", "realloc"),
    "into_the_next_block": Case([
        Report(OVER + "at least 64 bytes past the end of 64-byte block"),
        Report(UNDER + "at least 16 bytes, 16 bytes before the start of 64-byte block")]),
    "large": one(UNDER + "1 byte, 2 bytes before the start of 1048576-byte block"),
    "aligned": one(UNDER + "1 byte, 3 bytes before the start of 256-byte block"),
}

USE_AFTER_FREE = {
    "at_exit": at_exit(AFTER + "1 byte, 8 bytes into freed 56-byte block"),
    "first_byte": at_exit(AFTER + "1 byte, 0 bytes into freed 1-byte block"),
    "all_of_it": at_exit(AFTER + "200 bytes, 0 bytes into freed 200-byte block"),
    "behind_freed": at_exit(AFTER + "8 bytes, 20 bytes into freed 24-byte block"),
    "before_freed": at_exit(AFTER + "1 byte, 4 bytes before the start of freed 24-byte block"),
    "large": at_exit(AFTER + "at least 1 byte, 65535 bytes into freed 300000-byte block"),
    "list_node": at_exit(AFTER + "8 bytes, 8 bytes into freed 16-byte block"),
    "after_realloc": at_exit(AFTER + "1 byte, 39 bytes into freed 40-byte block"),
    "end_of_quarantine": one(AFTER + "1 byte, 8 bytes into freed 56-byte block", "quarantine",
                             options="quarantine_bytes=1000"),
    "walk": one(AFTER + "1 byte, 8 bytes into freed 56-byte block", "walk"),
    "walk_finds_live": one(OVER + "1 byte past the end of 56-byte block", "walk"),
    "on_signal": one(AFTER + "1 byte, 8 bytes into freed 56-byte block", "signal",
                     options=f"check_signal={int(signal.SIGUSR2)}"),
    "in_two_places": at_exit(AFTER + "at least 2 bytes, 3 bytes into freed 128-byte block"),
    "and_double_free": Case([
        Report("double-free: free of already freed 56-byte block"),
        Report(AFTER + "1 byte, 8 bytes into freed 56-byte block", "exit")]),
}


def foreign(operation="free"):
    return one(f"foreign-free: {operation} of a pointer into no block", operation)


def twice(noun, by="free", threads="0+"):
    return one(f"double-free: {by} of already freed {noun}", by, threads)


def interior(where, by="free"):
    return one(f"interior-free: {by} of a pointer {where}", by)


BAD_FREE = {
    "twice": twice("56-byte block"),
    "twice_elsewhere": twice("56-byte block", threads="011"),
    "twice_with_others_between": twice("56-byte block"),
    "twice_large": twice("5242880-byte block"),
    "after_realloc": twice("56-byte block"),
    "realloc_freed": twice("56-byte block", "realloc"),
    "realloc_to_zero_then_free": twice("56-byte block"),
    "interior": interior("32 bytes into 100-byte block"),
    "interior_odd": interior("1 byte into 100-byte block"),
    "interior_large": interior("1000000 bytes into 3145728-byte block"),
    "interior_of_freed": interior("48 bytes into freed 100-byte block"),
    "behind_end": interior("0 bytes past the end of 100-byte block"),
    "before_start": interior("8 bytes before the start of 100-byte block"),
    "realloc_interior": interior("8 bytes into 100-byte block", "realloc"),
    "stack": foreign(),
    "global_data": foreign(),
    "constant": foreign(),
    "function": foreign(),
    "mapping": foreign(),
    "wild": foreign(),
    "small_number": foreign(),
    "last_address": foreign(),
    "realloc_stack": foreign("realloc"),
    "realloc_global": foreign("realloc"),
    "realloc_wild": foreign("realloc"),
}


def mismatch(noun, by, verb="freed"):
    return one(f"{MISMATCH}{noun} {verb} with {by}", by.replace("[", r"\["))


MISMATCHES = {
    "array_new_delete": mismatch("40-byte block of operator new[]", "operator delete"),
    "new_array_delete": mismatch("16-byte block of operator new", "operator delete[]"),
    "new_free": mismatch("16-byte block of operator new", "free"),
    "array_new_free": mismatch("33-byte block of operator new[]", "free"),
    "malloc_delete": mismatch("4-byte block of malloc", "operator delete"),
    "malloc_array_delete": mismatch("12-byte block of malloc", "operator delete[]"),
    "strdup_delete": mismatch("7-byte block of malloc", "operator delete[]"),
    "unique_ptr_of_malloc": mismatch("64-byte block of malloc", "operator delete"),
    "realloc_of_new": mismatch("50-byte block of operator new[]", "realloc", "resized"),
    "realloc_of_large_new": mismatch("1000000-byte block of operator new[]", "realloc", "resized"),
    "sized_through_base": one("size-mismatch: 48-byte block freed as 4 bytes", "operator delete"),
    "sized_wrong": one("size-mismatch: 48-byte block freed as 40 bytes", "operator delete"),
    "aligned_new_plain_delete": one(
        "alignment-mismatch: 96-byte block of alignment 64 freed with default alignment",
        "operator delete"),
    "plain_new_aligned_delete": one(
        "alignment-mismatch: 96-byte block of default alignment freed with alignment 64",
        "operator delete"),
    "other_alignment": one(
        "alignment-mismatch: 256-byte block of alignment 256 freed with alignment 64",
        "operator delete"),
    "aligned_new_free": mismatch("128-byte block of operator new", "free"),
    "free_sized_wrong": one("size-mismatch: 60-byte block freed as 64 bytes"),
    "free_aligned_sized_wrong": one("size-mismatch: 128-byte block freed as 192 bytes"),
    "free_aligned_sized_other": one(
        "alignment-mismatch: 128-byte block of alignment 64 freed with alignment 32"),
    "and_overflow": Case([Report(f"{MISMATCH}24-byte block of operator new[] freed with free"),
                          Report(OVER + "1 byte past the end of 24-byte block")]),
}

OBJECTS = {
    "string_index": one(OVER + "1 byte past the end of 41-byte block", "operator delete"),
    "string_data_kept": at_exit(AFTER + "1 byte, 3 bytes into freed 41-byte block"),
    "vector_index": one(OVER + "4 bytes past the end of 40-byte block", "operator delete"),
    "vector_reference_kept": at_exit(AFTER + "4 bytes, 0 bytes into freed 16-byte block"),
    "vector_iterator_after_clear": at_exit(AFTER + "8 bytes, 40 bytes into freed 96-byte block"),
    "list_erased": at_exit(AFTER + "8 bytes, 16 bytes into freed 24-byte block"),
    "map_erased": at_exit(AFTER + "8 bytes, 40 bytes into freed 48-byte block"),
    "unique_ptr_moved": at_exit(AFTER + "8 bytes, 8 bytes into freed 16-byte block"),
    "shared_ptr_raw": at_exit(AFTER + "8 bytes, 24 bytes into freed 32-byte block"),
    "two_owners": twice("16-byte block", "operator delete"),
    "placement_beyond": one(OVER + "8 bytes past the end of 56-byte block", "operator delete"),
    "base_writes_derived": one(OVER + "8 bytes past the end of 8-byte block", "operator delete"),
    "member_of_deleted": at_exit(AFTER + "8 bytes, 0 bytes into freed 16-byte block"),
    "delete_twice": twice("16-byte block", "operator delete"),
    "delete_member": interior("8 bytes into 16-byte block", "operator delete"),
    "wrong_array_count": one(OVER + "16 bytes past the end of 80-byte block",
                             r"operator delete\[\]"),
}

THREADS = {
    "written_by_another": one(OVER + "1 byte past the end of 40-byte block"),
    "allocated_by_an_ended_one": one(OVER + "1 byte past the end of 40-byte block", threads="01"),
    "freed_by_an_ended_one": at_exit(AFTER + "1 byte, 4 bytes into freed 40-byte block",
                                     threads="001"),
    "all_by_ended_ones": Case([
        Report("double-free: free of already freed 40-byte block", threads="012"),
        Report(AFTER + "1 byte, 4 bytes into freed 40-byte block", "exit", threads="012")]),
    "one_of_many": one(OVER + "1 byte, 2 bytes past the end of 70-byte block", "free|walk",
                       threads="00|01"),
    "twice_in_each": Case([Report("double-free: free of already freed 30-byte block")] * 4,
                          racing=True),
    "race_to_free": twice("30-byte block", threads="012"),
}

CHILD = {"ends": 0, "stdout": [f"child {ABORT}", "survived"], "warned_stdout": ["child 0"]}

ENDINGS = {
    "at_exit": at_exit(OVER + "1 byte past the end of 24-byte block"),
    "at_exit_large": at_exit(OVER + "1 byte past the end of 2097152-byte block"),
    "in_atexit": one(OVER + "1 byte past the end of 24-byte block"),
    "static_destructor": one(OVER + "1 byte past the end of 30-byte block",
                             r"operator delete\[\]"),
    "in_a_child": one(OVER + "1 byte, 1 byte past the end of 24-byte block", threads="01",
                      **CHILD),
    "at_exit_of_a_child": at_exit(AFTER + "1 byte, 5 bytes into freed 24-byte block",
                                  threads="010", **CHILD),
    "in_the_parent": one(OVER + "1 byte past the end of 24-byte block",
                         warned_stdout=["child 0"]),
    "in_a_plugin": one(OVER + "3 bytes past the end of 90-byte block"),
    "of_a_closed_plugin": one(OVER + "3 bytes past the end of 90-byte block"),
    "by_a_closed_plugin": at_exit(AFTER + "1 byte, 7 bytes into freed 90-byte block"),
    "in_a_constructor_of_a_plugin": one(
        UNDER + "1 byte, 1 byte before the start of 90-byte block"),
    "caught": one(OVER + "1 byte past the end of 24-byte block", ends=7, stdout=["handled"]),
    "at_exit_with_code": at_exit(OVER + "1 byte past the end of 24-byte block", runs="at_exit",
                                 options="exit_code=77", ends=77),
    "quick": none(),
}

LEAK_OPTIONS = "leaks=all,suppressions={here}/leaks.rules"


def leaks(amounts, total, **more):
    """Amounts of groups, the largest first, and that of all."""
    more = {"ends": 0, "stdout": ["survived"], "options": LEAK_OPTIONS} | more
    return Case([Report(f"memory-leak: {amount} in all, never freed", "exit", "")
                 for amount in amounts], last_line=f"tarn: leaks: {total}", goes_on=True, **more)


LEAKS = {
    "one": leaks(["1 block of 100 bytes"], "1 block of 100 bytes in all from 1 place"),
    "three_of_a_line": leaks(["3 blocks of 303 bytes"],
                             "3 blocks of 303 bytes in all from 1 place"),
    "of_two_lines": leaks(["1 block of 300 bytes", "1 block of 40 bytes"],
                          "2 blocks of 340 bytes in all from 2 places"),
    "a_list": leaks(["10 blocks of 80 bytes"], "10 blocks of 80 bytes in all from 1 place"),
    "still_reachable": leaks(["1 block of 64 bytes"], "1 block of 64 bytes in all from 1 place"),
    "resized": leaks(["1 block of 640 bytes"], "1 block of 640 bytes in all from 1 place"),
    "of_libc": leaks(["1 block of 8 bytes", "1 block of 7 bytes"],
                     "2 blocks of 15 bytes in all from 2 places"),
    "of_an_ended_thread": leaks(
        ["1 block of 33 bytes"],
        r"1 block of 33 bytes in all from 1 place; 1 block of \d+ bytes suppressed"),
    "suppressed": leaks(
        [], "0 blocks of 0 bytes in all from 0 places; 2 blocks of 154 bytes suppressed"),
    "and_overflow": Case([Report(OVER + "1 byte past the end of 24-byte block", "exit"),
                          Report("memory-leak: 1 block of 24 bytes in all, never freed", "exit",
                                 "")],
                         options=LEAK_OPTIONS,
                         last_line="tarn: leaks: 1 block of 24 bytes in all from 1 place"),
    "nothing": none(options=LEAK_OPTIONS),
    "not_asked_for": none(runs="one"),
    "exit_code": leaks(["1 block of 100 bytes"], "1 block of 100 bytes in all from 1 place",
                       runs="one", ends=9, options=LEAK_OPTIONS + ",exit_code=9"),
}

def access(kind, where):
    return one(f"bad-access: {kind}, {where}", kind, options="debug=pages")


PAGES = {
    "read_behind": access("read", "0 bytes past the end of 64-byte block"),
    "write_behind": access("write", "0 bytes past the end of 64-byte block"),
    "write_far_behind": access("write", "1000 bytes past the end of 64-byte block"),
    "read_freed": access("read", "8 bytes into freed 48-byte block"),
    "write_freed": access("write", "8 bytes into freed 48-byte block"),
    "first_instruction": access("write", "0 bytes into freed 48-byte block"),
    "before": one(UNDER + "1 byte, 1 byte before the start of 64-byte block",
                  options="debug=pages"),
    "twice": Case([Report("double-free: free of already freed 48-byte block")],
                  options="debug=pages"),
    "leaks": leaks(["1 block of 48 bytes"], "1 block of 48 bytes in all from 1 place",
                   options="debug=pages,leaks=all"),
}

def sampled(signature, by="free"):
    """In fast mode: found in each run, though it has many blocks before the first that is guarded."""
    return Case([Report(signature, by)], mode="fast", options="sample_interval_bytes=4K",
                racing=True, runs_of_text=10)


SAMPLED = {
    "read_behind": sampled("bad-access: read, 0 bytes past the end of 96-byte block", "read"),
    "write_behind": sampled("bad-access: write, 12 bytes past the end of 260-byte block", "write"),
    "write_in_the_rest": sampled(OVER + "1 byte past the end of 90-byte block"),
    "read_freed": sampled("bad-access: read, 40 bytes into freed 96-byte block", "read"),
    "write_freed": sampled("bad-access: write, 40 bytes into freed 96-byte block", "write"),
    "twice": sampled("double-free: free of already freed 97-byte block"),
    "after_realloc": sampled("bad-access: write, 8 bytes into freed 97-byte block", "write"),
    "nothing": none(mode="fast", options="sample_interval_bytes=4K"),
    "off": none(mode="fast", options="sample_interval_bytes=4K,sampled_guards=off",
                runs="write_freed"),
}

PROGRAMS = {
    "overflow": OVERFLOW,
    "underflow": UNDERFLOW,
    "use_after_free": USE_AFTER_FREE,
    "bad_free": BAD_FREE,
    "mismatch": MISMATCHES,
    "objects": OBJECTS,
    "threads": THREADS,
    "endings": ENDINGS,
    "leaks": LEAKS,
    "pages": PAGES,
    "sampled": SAMPLED,
}
for cases in PROGRAMS.values():
    for case_name, case in cases.items():
        case.runs = case.runs or case_name
