#include "platform/linux/code_objects.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstring>

#include "base/bits.hpp"
#include "platform/os_memory.hpp"

extern "C" {
// Where this object ends.
// NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming): the linker's
extern char const _end[] __attribute__((weak, visibility("hidden")));
}

namespace tarn::impl::platform {

namespace {

#if defined(DLFO_EH_SEGMENT_TYPE)

/// Whether what is kept about `object` can't outlive it. So it is with the object of this very
/// code, and with those that the loader put into its list before itself: they were there before
/// the program ran, and stay. That part of the list never changes; what dlopen() loads comes
/// behind.
bool is_permanent(code_object const& object) noexcept {
    static constinit char const here = 0;
    static constinit std::atomic<link_map const*> own{nullptr};
    static constinit std::atomic<link_map const*> loader{nullptr};
    // relaxed, all: constants of the process
    if (own.load(std::memory_order_relaxed) == nullptr) {
        auto const ours = find_object(base::address_of(&here));
        auto const theirs = find_object(_r_debug.r_ldbase);
        loader.store(theirs ? theirs->map : nullptr, std::memory_order_relaxed);
        own.store(ours ? ours->map : nullptr, std::memory_order_relaxed);
    }
    if (object.map == own.load(std::memory_order_relaxed)) {
        return true;
    }
    for (link_map const* each = loader.load(std::memory_order_relaxed); each != nullptr;
         each = each->l_prev) {
        if (each == object.map) {
            return true;
        }
    }
    return false;
}

/// The build id of an object, from its first page, which holds its headers; nothing when it is
/// not there.
template <std::size_t Words>
std::optional<std::array<std::uint64_t, Words>> build_id_of(std::uintptr_t start) noexcept {
    constexpr std::size_t page = os_page_bytes_min;
    ElfW(Ehdr) header;
    std::memcpy(&header, base::pointer_to(start), sizeof header);
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_phentsize != sizeof(ElfW(Phdr)) || header.e_phoff > page ||
        header.e_phnum > (page - header.e_phoff) / sizeof(ElfW(Phdr))) {
        return std::nullopt;
    }
    for (std::size_t i = 0; i < header.e_phnum; ++i) {
        ElfW(Phdr) segment;
        std::memcpy(&segment, base::pointer_to(start + header.e_phoff + i * sizeof segment),
                    sizeof segment);
        if (segment.p_type != PT_NOTE || segment.p_offset > page ||
            segment.p_filesz > page - segment.p_offset) {
            continue;
        }
        std::uintptr_t at = start + segment.p_offset;
        std::uintptr_t const end = at + segment.p_filesz;
        while (end - at >= sizeof(ElfW(Nhdr))) {
            ElfW(Nhdr) note;
            std::memcpy(&note, base::pointer_to(at), sizeof note);
            std::uintptr_t const name = at + sizeof note;
            if (note.n_namesz > page || note.n_descsz > page) {
                break;
            }
            std::uintptr_t const text = name + base::align_up(note.n_namesz, 4);
            std::uintptr_t const next = text + base::align_up(note.n_descsz, 4);
            if (next > end) {
                break;
            }
            if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
                std::memcmp(base::pointer_to(name), "GNU", 4) == 0 && note.n_descsz >= 8) {
                std::array<std::uint64_t, Words> id{};
                std::memcpy(id.data(), base::pointer_to(text),
                            std::min<std::size_t>(note.n_descsz, sizeof id));
                return id;
            }
            at = next;
        }
    }
    return std::nullopt;
}

#endif

}  // namespace

std::optional<code_object> find_object(std::uintptr_t pc) noexcept {
#if defined(DLFO_EH_SEGMENT_TYPE)
    dl_find_object found;
    if (::_dl_find_object(base::pointer_to(pc), &found) != 0) {
        return std::nullopt;
    }
    code_object object{.tables = {.header = base::address_of(found.dlfo_eh_frame),
                                  .start = base::address_of(found.dlfo_map_start),
                                  .end = base::address_of(found.dlfo_map_end)},
                       .map = found.dlfo_link_map};
    // Of a static program, which holds this code, libc knows the instructions alone.
    if (object.tables.header >= object.tables.end &&
        base::address_of(_end) > object.tables.header) {
        object.tables.end = base::address_of(_end);
    }
    return object;
#else
    static_cast<void>(pc);
    return std::nullopt;
#endif
}

#if defined(DLFO_EH_SEGMENT_TYPE)

std::optional<code_objects::identity> code_objects::identify(code_object const& object) noexcept {
    // The page of the headers is mapped where the file's first segment begins the object.
    if (object.map == nullptr || object.map->l_addr != object.tables.start) {
        return std::nullopt;
    }
    auto const id = build_id_of<id_words>(object.tables.start);
    if (!id) {
        return std::nullopt;
    }
    return identity{.start = object.tables.start,
                    .end = object.tables.end,
                    .header = object.tables.header,
                    .build_id = *id};
}

#else

std::optional<code_objects::identity> code_objects::identify(code_object const&) noexcept {
    return std::nullopt;
}

bool is_permanent(code_object const&) noexcept { return false; }

#endif

code_objects::identity code_objects::read(record const& from) noexcept {
    // relaxed, all: the acquire of the status made them visible
    auto const word = [&](std::size_t i) noexcept {
        return from.words[i].load(std::memory_order_relaxed);
    };
    identity result{.start = word(0), .end = word(1), .header = word(2), .build_id = {}};
    for (std::size_t i = 0; i < id_words; ++i) {
        result.build_id[i] = word(3 + i);
    }
    return result;
}

object_slot code_objects::slot_of(code_object const& object) noexcept {
    if (is_permanent(object)) {
        return object_slot::permanent;
    }
    auto const wanted = identify(object);
    if (!wanted) {
        return object_slot::none;
    }
    for (std::size_t i = 0; i < records_.size(); ++i) {
        record& each = records_[i];
        auto const slot = static_cast<object_slot>(i + 1);
        // acquire: pairs with the release below
        state status = each.status.load(std::memory_order_acquire);
        if (status == state::free &&
            each.status.compare_exchange_strong(status, state::filling, std::memory_order_acquire,
                                                std::memory_order_acquire)) {
            each.words[0].store(wanted->start, std::memory_order_relaxed);
            each.words[1].store(wanted->end, std::memory_order_relaxed);
            each.words[2].store(wanted->header, std::memory_order_relaxed);
            for (std::size_t word = 0; word < id_words; ++word) {
                each.words[3 + word].store(wanted->build_id[word], std::memory_order_relaxed);
            }
            // release: pairs with the acquires of the status
            each.status.store(state::filled, std::memory_order_release);
            return slot;
        }
        if (status == state::filled && read(each) == *wanted) {
            return slot;
        }
    }
    return object_slot::none;
}

bool code_objects::is_there(object_slot slot, std::uintptr_t pc) const noexcept {
    auto const number = static_cast<std::size_t>(slot);
    if (number == 0 || number > records_.size()) {
        return slot == object_slot::permanent;
    }
    record const& it = records_[number - 1];
    // acquire: pairs with the release in slot_of()
    if (it.status.load(std::memory_order_acquire) != state::filled) {
        return false;
    }
    auto const object = find_object(pc);
    if (!object) {
        return false;
    }
    auto const here = identify(*object);
    return here && *here == read(it);
}

}  // namespace tarn::impl::platform
