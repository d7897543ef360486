#include "live/live_file.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace tarn::live {

namespace {

constexpr std::size_t word_count = TARN_LIVE_BYTES / sizeof(std::uint64_t);
using file_copy = std::array<std::uint64_t, word_count>;

// How long a process may have ended before we notice it.
constexpr std::chrono::milliseconds wait_max{50};

// So many looks at figures that change just then, though the time is over.
constexpr unsigned looks_min = 16;

[[noreturn]] void refuse(process const& owner, std::string const& what) {
    throw unavailable{reason::unusable, fmt::format("process {}: {}", owner.number(), what)};
}

/// The first fields, each read once. Others may change them, but not these four of a good file.
tarn_live start_of(tarn_live& file) {
    tarn_live start{};
    start.magic = std::atomic_ref{file.magic}.load(std::memory_order_relaxed);
    start.version = std::atomic_ref{file.version}.load(std::memory_order_relaxed);
    start.process_id = std::atomic_ref{file.process_id}.load(std::memory_order_relaxed);
    return start;
}

void* map_file(process const& owner, std::string const& name) {
    descriptor const file = owner.open(name);
    if (file.number() < 0) {
        owner.refuse(errno, "open its statistics file");
    }

    struct stat status {};

    if (::fstat(file.number(), &status) != 0) {
        owner.refuse(errno, "look at its statistics file");
    }
    if (status.st_size != TARN_LIVE_BYTES) {
        refuse(owner, fmt::format("its statistics file has {} bytes instead of {}", status.st_size,
                                  TARN_LIVE_BYTES));
    }
    // Else its owner could cut it under our mapping, and end us by SIGBUS.
    int const seals = ::fcntl(file.number(), F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
        refuse(owner, "its statistics file is not sealed, so it can't be read safely");
    }
    void* const base =
        ::mmap(nullptr, TARN_LIVE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file.number(), 0);
    if (base == MAP_FAILED) {
        owner.refuse(errno, "map its statistics file");
    }
    return base;
}

/// The first of its files that is its own. Throws what is wrong with the first when none is.
mapped_file find_file(process const& owner) {
    std::optional<unavailable> wrong;
    for (std::string const& name : owner.live_files()) {
        try {
            mapped_file file{map_file(owner, name)};
            std::string const defect = defect_of(start_of(*file), owner.own_number());
            if (defect.empty()) {
                return file;
            }
            refuse(owner, defect);
        } catch (unavailable const& error) {
            wrong = wrong ? wrong : std::optional{error};
        }
    }
    throw unavailable{wrong->why(), wrong->what()};  // live_files() gave at least one
}

/// Copies the file's words; false when the process changed them meanwhile.
bool try_copy(tarn_live& file, file_copy& to, std::uint32_t sequence) {
    auto* const words = reinterpret_cast<std::uint64_t*>(&file);
    for (std::size_t i = 0; i < word_count; ++i) {
        to[i] = std::atomic_ref{words[i]}.load(std::memory_order_relaxed);
    }
    // acquire: keeps the load below behind the copy; pairs with the process's release fence between
    // making `sequence` odd and changing the rest.
    std::atomic_thread_fence(std::memory_order_acquire);
    return std::atomic_ref{file.sequence}.load(std::memory_order_relaxed) == sequence;
}

tarn_live_check copy_of(tarn_live_check& from) {
    auto const read = [](auto& word) {
        return std::atomic_ref{word}.load(std::memory_order_relaxed);
    };
    tarn_live_check copy{};
    copy.is_answered = read(from.is_answered);
    copy.answered = read(from.answered);
    copy.blocks = read(from.blocks);
    copy.damaged_blocks = read(from.damaged_blocks);
    copy.quarantined_blocks = read(from.quarantined_blocks);
    copy.damaged_blocks_total = read(from.damaged_blocks_total);
    copy.findings_total = read(from.findings_total);
    copy.duration_ms = read(from.duration_ms);
    return copy;
}

/// Waits for a change of the word for a moment. False: `end` has come.
bool wait_for_change(std::uint32_t& word, std::uint32_t expected, deadline end) {
    auto const left =
        std::min<std::chrono::nanoseconds>(end - std::chrono::steady_clock::now(), wait_max);
    if (left.count() <= 0) {
        return false;
    }
    timespec const time{.tv_sec = left.count() / 1'000'000'000,
                        .tv_nsec = left.count() % 1'000'000'000};
    // Returns at once when the word has changed; any other end is looked into by the caller.
    ::syscall(SYS_futex, &word, FUTEX_WAIT, expected, &time, nullptr, 0);
    return true;
}

figures parse_copy(process const& owner, file_copy const& copy) {
    try {
        return parse(std::as_bytes(std::span{copy}));
    } catch (unavailable const& error) {
        refuse(owner, error.what());
    }
}

}  // namespace

mapped_file::~mapped_file() {
    if (base_ != nullptr) {
        ::munmap(base_, TARN_LIVE_BYTES);
    }
}

live_file::live_file(process owner) : owner_(std::move(owner)), file_(find_file(owner_)) {}

void live_file::request() {
    // release: none of ours precedes it; the process acquires it before it takes the figures.
    request_ = std::atomic_ref{file_->requests}.fetch_add(1, std::memory_order_release) + 1;
    wake();
}

void live_file::wake() const {
    ::syscall(SYS_futex, &file_->requests, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void live_file::request_check() {
    tarn_live_check& check = file_.check();
    if (std::atomic_ref{check.is_answered}.load(std::memory_order_relaxed) == 0) {
        throw unavailable{
            reason::not_checking,
            fmt::format("process {}: it does not check its blocks; it does when started with "
                        "TARN_MODE=debug",
                        owner_.number())};
    }
    // release, both: the process acquires the second, and then sees the first.
    check_request_ = std::atomic_ref{check.requests}.fetch_add(1, std::memory_order_release) + 1;
    request();
}

tarn_live_check live_file::read_check(deadline end) const {
    tarn_live_check& check = file_.check();
    for (;;) {
        bool const has_ended = owner_.has_ended();  // before the look: a last answer counts
        // acquire: pairs with the process's release of an even value; the copy sees its figures.
        std::uint32_t const sequence =
            std::atomic_ref{check.sequence}.load(std::memory_order_acquire);
        if (sequence % 2 == 0) {
            tarn_live_check const found = copy_of(check);
            // acquire: as in try_copy().
            std::atomic_thread_fence(std::memory_order_acquire);
            if (std::atomic_ref{check.sequence}.load(std::memory_order_relaxed) == sequence &&
                has_reached(found.answered, check_request_)) {
                return found;
            }
        }
        if (has_ended) {
            throw unavailable{
                reason::ended,
                fmt::format("process {}: it has ended before it told what it found; by default the "
                            "first finding ends it (option on_misuse), and its report says which",
                            owner_.number())};
        }
        if (!wait_for_change(check.sequence, sequence, end)) {
            throw unavailable{
                reason::no_answer,
                fmt::format("process {}: no answer; a process with one thread checks when it next "
                            "allocates or frees, one that is stopped when it goes on",
                            owner_.number())};
        }
    }
}

figures live_file::read(deadline end) const {
    auto const copy = std::make_unique<file_copy>();
    std::optional<figures> latest;
    std::uint32_t sequence = 0;
    bool has_ended = false;
    bool may_go_on = true;
    for (unsigned looks = 1; may_go_on; ++looks) {
        has_ended = owner_.has_ended();  // before the look: a last answer counts
        // acquire: pairs with the process's release of an even value; the copy sees its figures.
        sequence = std::atomic_ref{file_->sequence}.load(std::memory_order_acquire);
        bool const is_whole = sequence != 0 && sequence % 2 == 0;
        if (is_whole && try_copy(*file_, *copy, sequence)) {
            latest = parse_copy(owner_, *copy);
            latest->is_answer = has_reached(latest->answered, request_);
            if (latest->is_answer) {
                return std::move(*latest);
            }
        }
        may_go_on = !has_ended && (wait_for_change(file_->sequence, sequence, end) ||
                                   (!latest && looks < looks_min));
    }
    if (has_ended) {
        throw unavailable{reason::ended, fmt::format("process {}: it has ended", owner_.number())};
    }
    if (latest) {
        return std::move(*latest);
    }
    throw unavailable{
        reason::no_answer,
        fmt::format("process {}: {}", owner_.number(),
                    sequence == 0
                        ? "has taken no figures yet, and did not answer"
                        : "is changing its figures and has not come to an end; is it stopped?")};
}

std::uint64_t now_ms() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1000 +
           static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000;
}

}  // namespace tarn::live
