// tarn/snapshot.hpp - snapshot_memory: memory whose state can be frozen for readers while its
// writer goes on; snapshot: such a state; snapshot_view: a mapping of it.
//
//     tarn::snapshot_memory memory;
//     tarn::region region{{}, &memory};            // or any std::pmr container
//     ...
//     tarn::snapshot const now = memory.take();    // the cost of what was written since the last
//     one tarn::snapshot_view const view = now.map();  // for any thread, child or process
//
// Pages that were not written since are the same memory in all snapshots, and in the writer.
// Pointers inside the memory lead into the writer's. In a view elsewhere in the writer's process,
// translate() says where that is; a forked child, or another process, has the range free, and
// map_in_place() makes all pointers right as they are.
//
// Threads    snapshot_memory: one at a time, and nobody may write to its memory during take() and
//            trim(); reading is fine. snapshot: any thread, one at a time. A view: any number
// Always     what a snapshot shows never changes. It lives as long as a `snapshot`, a descriptor
//            passed on, or a view of it is left in any process; one that is killed lets go of it.
//            They go in any order, also after the snapshot_memory. What only a snapshot that is
//            gone has needed serves the next ones.
// Fork       a child does not get the memory, only its address range, empty; it uses snapshots.
// Errors     std::bad_alloc: the capacity, or that for old versions, is used up. std::system_error:
//            what the system refuses, by name. After an error of take() the memory is as before,
//            and the next one has all that this one would have.
// Cost       take(): 1 to 3 us per page of 4 KiB written, and 5 ns per page of the region; without
//            the kernel's help (below) 5 to 10 us, and 70 ns per page of the region. map(): some
//            5 us per page that is away from home. A page costs its memory once, twice where it was
//            written since trim(), and once more for each state in which snapshots still need it;
//            a 32nd of the region stands ready for changes.
// Needs      Linux 3.17 and /proc; before 5.14 a lack of memory in take() is a signal, no error.
//            Writes are found cheaply where userfaultfd may be used, from Linux 6.7 on.
// Limits     a descriptor per snapshot (RLIMIT_NOFILE); two mappings for each stretch of 16 pages
//            and more that a view finds away from home (vm.max_map_count); the file's length
//            (RLIMIT_FSIZE). A program that locks all its memory (mlockall) locks the whole
//            capacity. A page that was never written costs its memory when it is read.
// Source     docs/design/snapshot.md
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include <tarn/detail/snapshot_list.hpp>
#include <tarn/detail/snapshot_system.hpp>
#include <tarn/detail/snapshot_versions.hpp>
#include <tarn/fit_heap.hpp>

namespace tarn {

/// How pages that were written are found.
enum class snapshot_tracking : std::uint8_t {
    best,   // by write protection, where the system can; else by copies
    copies  // by looking at all pages
};

struct snapshot_options {
    std::size_t capacity_bytes = std::size_t{1} << 30;  // address space; costs nothing until used
    /// Address space for versions that only old snapshots need.
    std::size_t history_bytes = std::size_t{3} << 30;
    void* address = nullptr;             // where the memory lies; null: anywhere
    char const* name = "tarn-snapshot";  // as /proc/PID/maps shows it; must outlive the memory
    snapshot_tracking tracking = snapshot_tracking::best;
};

struct snapshot_statistics {
    std::size_t region_bytes;  // that the last snapshot covers
    std::size_t file_bytes;    // memory of the last state and of older versions
    std::size_t copied_bytes;  // by the last take()
    std::size_t kept_bytes;    // private copies beside the last state: trim() drops them
    std::size_t snapshots;     // that somebody holds, or did at the last take() or trim()
    std::size_t away_pages;    // number of pages of the last state that do not lie at home
    snapshot_tracking tracking;
};

/// A mapping of a snapshot, for reading. A forked child has it, too.
class snapshot_view {
public:
    /// Null: the snapshot is of an empty memory.
    [[nodiscard]] std::byte const* data() const noexcept { return memory_.start(); }

    [[nodiscard]] std::size_t size() const noexcept { return memory_.bytes(); }

    [[nodiscard]] std::uint64_t number() const noexcept { return number_; }

    /// Pointers inside lead to what this view shows.
    [[nodiscard]] bool is_in_place() const noexcept { return base_ == address(memory_.start()); }

    /// Where this view shows what `pointer` leads to in the writer's memory. Null for null, and for
    /// what is not in the snapshot.
    template <class T>
    [[nodiscard]] T const* translate(T const* pointer) const noexcept {
        std::uintptr_t const offset = address(pointer) - base_;
        return offset < size() ? reinterpret_cast<T const*>(data() + offset) : nullptr;
    }

    /// What snapshot_memory::set_root() was told, here.
    template <class T>
    [[nodiscard]] T const* root() const noexcept {
        return translate(reinterpret_cast<T const*>(root_));
    }

private:
    friend class snapshot;

    [[nodiscard]] static std::uintptr_t address(void const* pointer) noexcept {
        return reinterpret_cast<std::uintptr_t>(pointer);
    }

    snapshot_view(detail::snapshot_list const& list, int fd, void* where)
        : base_{static_cast<std::uintptr_t>(list.head().base)},
          root_{static_cast<std::uintptr_t>(list.head().root)},
          number_{list.head().number} {
        std::size_t const page_bytes = list.head().page_bytes;
        if (list.head().pages == 0) {
            return;
        }
        memory_ = detail::map_pages(where, list.head().pages * page_bytes, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_NORESERVE, fd, 0);
        ::madvise(memory_.start(), memory_.bytes(), MADV_NOHUGEPAGE);
        std::vector<iovec> scattered;
        page_number first = 0;
        page_number count = 0;
        for (detail::snapshot_piece const& each : list.pieces()) {
            std::byte* const start = memory_.start() + each.page * page_bytes;
            std::size_t const bytes = each.count * page_bytes;
            if (each.count >= mapped_least) {
                detail::map_over(start, bytes, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd,
                                 each.place * page_bytes);
                continue;
            }
            if (scattered.size() == scattered_most || each.place != first + count) {
                read(fd, first * page_bytes, scattered);
            }
            if (scattered.empty()) {
                first = each.place;
                count = 0;
            }
            scattered.push_back({start, bytes});
            count += each.count;
        }
        read(fd, first * page_bytes, scattered);
        if (::mprotect(memory_.start(), memory_.bytes(), PROT_READ) != 0) {
            detail::refuse_mapping(errno);
        }
    }

    /// Reads what lies side by side in the file to where it belongs.
    static void read(int fd, std::size_t offset, std::vector<iovec>& to) {
        std::size_t bytes = 0;
        for (iovec const& each : to) {
            bytes += each.iov_len;
        }
        if (bytes != 0 && ::preadv(fd, to.data(), static_cast<int>(to.size()),
                                   static_cast<off_t>(offset)) != static_cast<ssize_t>(bytes)) {
            detail::refuse_snapshot("its pages cannot be read");
        }
        to.clear();
    }

    using page_number = detail::page_number;

    // A mapping costs as much as some ten pages copied, and there may be 65,530 of them.
    static constexpr page_number mapped_least = 16;
    static constexpr std::size_t scattered_most = 512;

    detail::mapping memory_;
    std::uintptr_t base_;
    std::uintptr_t root_;
    std::uint64_t number_;
};

/// A state of a snapshot_memory. All it has is a descriptor: what that leads to, in whatever
/// process, is the snapshot.
class snapshot {
public:
    /// A descriptor that came from another process or from release(). It is closed at the end;
    /// where it leads to no snapshot, it stays the caller's. Errors: std::system_error.
    [[nodiscard]] static snapshot adopt(int descriptor) {
        detail::snapshot_list const checked{descriptor};
        return snapshot{detail::descriptor{descriptor}};
    }

    /// To pass on, over a socket or to a child; close-on-exec. It must be this one or a duplicate:
    /// the file opened anew by a path is no snapshot.
    [[nodiscard]] int descriptor() const noexcept { return fd_.get(); }

    /// The descriptor is the caller's to close.
    [[nodiscard]] int release() noexcept { return fd_.release(); }

    /// From 1 on, rising.
    [[nodiscard]] std::uint64_t number() const {
        return detail::snapshot_list{fd_.get()}.head().number;
    }

    /// Anywhere; or exactly at `where`, a page's start, where nothing may be mapped yet.
    [[nodiscard]] snapshot_view map(void* where = nullptr) const {
        return {detail::snapshot_list{fd_.get()}, fd_.get(), where};
    }

    /// Where the writer has it: not in the writer's own process, as long as it has it.
    [[nodiscard]] snapshot_view map_in_place() const {
        detail::snapshot_list const list{fd_.get()};
        auto const base = static_cast<std::uintptr_t>(list.head().base);
        return {list, fd_.get(), reinterpret_cast<void*>(base)};
    }

private:
    friend class snapshot_memory;

    explicit snapshot(detail::descriptor fd) noexcept : fd_{std::move(fd)} {}

    detail::descriptor fd_;
};

class snapshot_memory final : public std::pmr::memory_resource {
public:
    explicit snapshot_memory(snapshot_options const& options = {})
        : page_bytes_{detail::os_page_bytes()},
          pages_max_{page_count(options.capacity_bytes)},
          versions_{pages_max_, page_count(options.history_bytes)},
          memory_{detail::map_pages(options.address, pages_max_ * page_bytes_,
                                    PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)},
          file_{options.name, std::size_t{pages_max_} + page_count(options.history_bytes)},
          finder_{memory_.start(), options.tracking == snapshot_tracking::best
                                       ? detail::write_finder::way::protection
                                       : detail::write_finder::way::copies},
          process_{::getpid()},
          heap_{advised(memory_)} {
        file_.extend(pages_max_);
    }

    snapshot_memory(snapshot_memory const&) = delete;
    snapshot_memory& operator=(snapshot_memory const&) = delete;

    ~snapshot_memory() override {
        if (!is_owner()) {  // a child: its address ranges are somebody else's
            memory_.forget();
            file_.forget();
        }
    }

    /// Freezes what the memory holds now.
    [[nodiscard]] snapshot take() {
        expect_owner();
        collect();
        snapshot_number const number = last_ + 1;
        page_number const pages_before = versions_.pages();
        copied_ = 0;
        save_first_time(number);
        if (!is_protecting()) {
            written_.clear();  // all copies are found each time
        }
        finder_.find(pages_before, written_);
        save_written(number);
        return_home(number, std::max<std::size_t>(copied_, return_home_least));
        std::vector<page_number> own;
        try {
            write_list(number, own);
            detail::descriptor opened =
                detail::open_snapshot(file_.fd(), number, own.front() * page_bytes_);
            versions_.add(number, std::move(own));
            last_ = number;
            return snapshot{std::move(opened)};
        } catch (...) {
            for (page_number const place : own) {
                versions_.put_back(place);
            }
            throw;
        }
    }

    /// Where readers begin: a pointer into the memory, or null.
    void set_root(void const* root) noexcept { root_ = root; }

    /// Gives back what nobody needs: versions of snapshots that are gone, and private copies of
    /// pages that have been saved. Cost: a system call for each stretch of them.
    void trim() {
        expect_owner();
        collect();
        return_home(last_ + 1, pages_max_);
        drop_copies();
        punch_free(0);
    }

    [[nodiscard]] snapshot_statistics statistics() const noexcept {
        return {
            .region_bytes = versions_.pages() * page_bytes_,
            .file_bytes = file_.held_bytes(),
            .copied_bytes = copied_ * page_bytes_,
            .kept_bytes = static_cast<std::size_t>(std::count(kept_.begin(), kept_.end(), true)) *
                          page_bytes_,
            .snapshots = versions_.live_count(),
            .away_pages = versions_.away_count(),
            .tracking = is_protecting() ? snapshot_tracking::best : snapshot_tracking::copies};
    }

    /// Whether the memory is here, for any use: blocks, or what was never handed out.
    [[nodiscard]] bool owns(void const* pointer) const noexcept {
        return reinterpret_cast<std::uintptr_t>(pointer) -
                   reinterpret_cast<std::uintptr_t>(memory_.start()) <
               memory_.bytes();
    }

private:
    using page_number = detail::page_number;
    using page_run = detail::page_run;
    using snapshot_number = detail::snapshot_number;

    static constexpr std::size_t return_home_least = 64;  // pages
    static constexpr std::size_t free_kept_part = 32;     // of the region's pages

    [[nodiscard]] page_number page_count(std::size_t bytes) const {
        std::size_t const count = (bytes + page_bytes_ - 1) / page_bytes_;
        if (count == 0 || count >= std::size_t{1} << 30) {
            throw std::invalid_argument{
                "tarn::snapshot_memory: capacity and history are from one page to 2^30 of them"};
        }
        return static_cast<page_number>(count);
    }

    static std::span<std::byte> advised(detail::mapping const& memory) noexcept {
        advise(memory.start(), memory.bytes());
        return {memory.start(), memory.bytes()};
    }

    /// Not for children, whose clean pages would change with the file; not in huge pages, of which
    /// one written byte would cost all.
    static void advise(std::byte* start, std::size_t bytes) noexcept {
        ::madvise(start, bytes, MADV_DONTFORK);
        ::madvise(start, bytes, MADV_NOHUGEPAGE);
    }

    [[nodiscard]] bool is_owner() const noexcept { return ::getpid() == process_; }

    void expect_owner() const {
        if (!is_owner()) {
            detail::refuse_snapshot("the memory is the parent's; a child uses its snapshots",
                                    EPERM);
        }
    }

    [[nodiscard]] bool is_protecting() const noexcept {
        return finder_.chosen() == detail::write_finder::way::protection;
    }

    [[nodiscard]] std::byte* page_start(page_number page) const noexcept {
        return memory_.start() + page * page_bytes_;
    }

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        void* const block = heap_.allocate(bytes, alignment);
        auto const end =
            static_cast<std::size_t>(static_cast<std::byte*>(block) + bytes - memory_.start());
        used_bytes_ = std::max(used_bytes_, end);
        return block;
    }

    void do_deallocate(void* block, std::size_t bytes, std::size_t /*alignment*/) override {
        heap_.deallocate(block, bytes);
    }

    [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }

    /// Learns which snapshots are gone.
    void collect() {
        std::vector<snapshot_number> gone;
        versions_.for_each_live([&](snapshot_number number) {
            if (!detail::is_snapshot_held(file_.fd(), number)) {
                gone.push_back(number);
            }
        });
        for (snapshot_number const number : gone) {
            versions_.release(number);
        }
        versions_.sort_free_places();
        punch_free(free_kept());
    }

    /// Pages that no snapshot has covered yet are anonymous memory. What was touched of them goes
    /// to the file; then the file stands in their place.
    void save_first_time(snapshot_number number) {
        auto const end = static_cast<page_number>(
            std::min<std::size_t>((used_bytes_ + page_bytes_ - 1) / page_bytes_, pages_max_));
        page_number const first = versions_.pages();
        if (end <= first) {
            return;
        }
        page_run const all{first, end - first};
        std::vector<page_run> touched;
        finder_.find_copies(all, touched);
        detail::page_writer to{file_};
        for (page_run const run : touched) {
            for (page_number page = run.first; page < run.first + run.count; ++page) {
                to.write(page, page_start(page));
                ++copied_;
            }
        }
        to.finish();
        kept_.resize(end, false);
        versions_.extend_room(end);
        detail::map_over(page_start(first), all.count * page_bytes_, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_NORESERVE, file_.fd(), first * page_bytes_);
        advise(page_start(first), all.count * page_bytes_);
        finder_.watch(all);
        versions_.extend(end, number);
        reserve_places();
    }

    /// Memory for the first changes, so that no snapshot but the first has to wait for it.
    void reserve_places() {
        std::vector<page_number> places;
        places.reserve(free_kept());
        while (places.size() < places.capacity() && versions_.can_take_spare()) {
            places.push_back(versions_.take_spare());
        }
        std::sort(places.begin(), places.end());
        std::size_t from = 0;
        for (std::size_t i = 1; i <= places.size(); ++i) {
            if (i < places.size() && places[i] == places[i - 1] + 1) {
                continue;
            }
            file_.extend(places[i - 1] + 1);
            static_cast<void>(file_.back(places[from], i - from));  // else when they are written
            from = i;
        }
        for (page_number const place : places) {
            versions_.put_back(place);
        }
        versions_.sort_free_places();
    }

    /// Free places that keep their memory.
    [[nodiscard]] std::size_t free_kept() const noexcept {
        return std::max<std::size_t>(2 * changed_, versions_.pages() / free_kept_part + 1);
    }

    /// Copies what was written since the last snapshot to where no other snapshot needs the place.
    void save_written(snapshot_number number) {
        struct copy {
            page_number page;
            page_number place;
        };

        std::vector<copy> copies;
        try {
            for (page_run const run : merged_written()) {
                for (page_number page = run.first; page < run.first + run.count; ++page) {
                    if (!is_saved(page)) {
                        copies.push_back({page, 0});
                        copies.back().place = versions_.place_for(page);
                    }
                }
            }
            detail::page_writer to{file_};
            for (copy const& each : copies) {
                to.write(each.place, page_start(each.page));
            }
            to.finish();
            versions_.reserve_commits(copies.size());
        } catch (...) {
            for (copy const& each : copies) {
                versions_.put_back(each.place);
            }
            throw;
        }
        for (copy const& each : copies) {
            versions_.commit(each.page, each.place, number);
        }
        changed_ = copies.size();
        copied_ += changed_;
        for (page_run const run : written_) {
            std::fill_n(kept_.begin() + run.first, run.count, true);
        }
        written_.clear();
        if (!is_protecting()) {
            drop_copies();  // else they would count as written again
        }
    }

    /// By number, without overlaps: what an attempt that failed had found is among them.
    [[nodiscard]] std::vector<page_run> const& merged_written() {
        std::sort(written_.begin(), written_.end(),
                  [](page_run left, page_run right) { return left.first < right.first; });
        std::size_t kept = 0;
        for (page_run const run : written_) {
            if (kept != 0 && run.first <= end_of(written_[kept - 1])) {
                page_run& last = written_[kept - 1];
                last.count = std::max(end_of(last), end_of(run)) - last.first;
            } else {
                written_[kept++] = run;
            }
        }
        written_.resize(kept);
        return written_;
    }

    [[nodiscard]] static page_number end_of(page_run run) noexcept { return run.first + run.count; }

    /// Whether the file has what the page holds now.
    [[nodiscard]] bool is_saved(page_number page) const noexcept {
        page_number const place = versions_.place_of(page);
        return file_.is_backed(place) &&
               detail::is_same_page(file_.page(place), page_start(page), page_bytes_);
    }

    /// Brings pages that are away to their homes, where those are free, so that views need fewer
    /// mappings. At most so many.
    void return_home(snapshot_number number, std::size_t most) {
        detail::page_writer to{file_};
        versions_.reserve_commits(std::min(most, versions_.away_count()));
        versions_.for_each_returnable([&](page_number page) {
            if (most-- == 0) {
                return false;
            }
            to.write(page, file_.page(versions_.place_of(page)));
            to.finish();
            versions_.commit(page, page, number);
            return true;
        });
    }

    /// Drops private copies that the file has as well. Away pages keep theirs: beneath them lies an
    /// older version.
    void drop_copies() {
        for (page_number page = 0; page < kept_.size(); ++page) {
            page_number const first = page;
            while (page < kept_.size() && kept_[page] && !versions_.is_away(page) &&
                   is_saved(page)) {
                ++page;
            }
            if (page != first) {
                drop({first, page - first});
            }
        }
    }

    void drop(page_run run) {
        constexpr int dont_need_locked = 24;  // MADV_DONTNEED_LOCKED, Linux 5.18
        std::size_t const bytes = run.count * page_bytes_;
        if (::madvise(page_start(run.first), bytes, MADV_DONTNEED) != 0 &&
            ::madvise(page_start(run.first), bytes, dont_need_locked) != 0) {
            return;  // they stay, and cost their memory
        }
        std::fill_n(kept_.begin() + run.first, run.count, false);
        finder_.dropped(run);
    }

    /// Gives the memory of free places back, but for that of `kept`, which the next snapshots use.
    void punch_free(std::size_t kept) noexcept {
        std::vector<page_number> const& places = versions_.free_places();
        auto const backed = static_cast<std::size_t>(std::count_if(
            places.begin(), places.end(), [this](auto place) { return file_.is_backed(place); }));
        std::size_t excess = backed - std::min(backed, kept);
        for (std::size_t i = 0; i < places.size() && excess != 0;) {  // from the highest down
            std::size_t count = 0;
            while (count < excess && i + count < places.size() &&
                   places[i + count] == places[i] - count && file_.is_backed(places[i + count])) {
                ++count;
            }
            if (count != 0) {
                file_.punch(places[i + count - 1], count);
                excess -= count;
            }
            i += std::max<std::size_t>(count, 1);
        }
    }

    void write_list(snapshot_number number, std::vector<page_number>& own) {
        std::vector<detail::snapshot_piece> const pieces = pieces_away();
        std::size_t const room = detail::snapshot_head::pieces_max(page_bytes_);
        std::size_t const heads = std::max<std::size_t>((pieces.size() + room - 1) / room, 1);
        own.reserve(heads);
        for (std::size_t i = 0; i < heads; ++i) {
            own.push_back(versions_.take_spare());
        }
        std::vector<std::byte> page(page_bytes_);
        detail::page_writer to{file_};
        for (std::size_t i = 0; i < heads; ++i) {
            std::size_t const first = i * room;
            std::size_t const count = std::min(room, pieces.size() - first);
            detail::snapshot_head head;
            head.number = number;
            head.base = reinterpret_cast<std::uintptr_t>(memory_.start());
            head.root = reinterpret_cast<std::uintptr_t>(root_);
            head.page_bytes = static_cast<std::uint32_t>(page_bytes_);
            head.pages = versions_.pages();
            head.place = own[i];
            head.next = i + 1 < heads ? own[i + 1] : 0;
            head.pieces = static_cast<std::uint32_t>(count);
            std::memcpy(page.data(), &head, sizeof head);
            if (count != 0) {
                std::memcpy(page.data() + sizeof head, pieces.data() + first,
                            count * sizeof(detail::snapshot_piece));
            }
            to.write(own[i], page.data());
            to.finish();
        }
    }

    [[nodiscard]] std::vector<detail::snapshot_piece> pieces_away() {
        std::vector<detail::snapshot_piece> pieces;
        for (page_number const page : versions_.away()) {
            page_number const place = versions_.place_of(page);
            if (!pieces.empty() && pieces.back().page + pieces.back().count == page &&
                pieces.back().place + pieces.back().count == place) {
                ++pieces.back().count;
            } else {
                pieces.push_back({page, place, 1});
            }
        }
        return pieces;
    }

    std::size_t page_bytes_;
    page_number pages_max_;
    detail::snapshot_versions versions_;
    detail::mapping memory_;
    detail::page_file file_;
    detail::write_finder finder_;
    pid_t process_;
    fit_heap heap_;
    std::size_t used_bytes_ = 0;
    snapshot_number last_ = 0;
    std::vector<page_run> written_;  // found, and not saved yet
    std::vector<bool> kept_;         // pages that may have a private copy which the file has, too
    std::size_t copied_ = 0;         // pages, by the last take()
    std::size_t changed_ = 0;        // of those, such as had been saved before
    void const* root_ = nullptr;
};

}  // namespace tarn
