#include "heap/page.hpp"

#include "base/check.hpp"
#include "heap/host.hpp"
#include "heap/thread_heap.hpp"

namespace tarn::impl::heap {

void page::collect_remote() noexcept {
    TARN_ASSERT(!counts_down());
    remote_state seen = remote.look();
    if (seen.list() == nullptr && seen.how() == hold::held) {
        return;
    }
    block* const own = local;
    bool joined = false;
    do {
        if (static_cast<int>(seen.count()) > out.get()) {
            local = own;
            static_cast<void>(remote.take());
            host_misuse({.kind = misuse_kind::double_free,
                         .operation = "free",
                         .ptr = seen.list(),
                         .block = seen.list(),
                         .block_bytes = block_bytes.get()});
            return;
        }
        if (block* const list = seen.list()) {
            if (!joined) {
                block* last = list;
                for (std::uint32_t i = 1; i < seen.count(); ++i) {
                    last = last->next;
                }
                last->next = own;
                joined = true;
            }
            local = list;
        }
    } while (!remote.try_take(seen));
    out.set(out.get() - static_cast<int>(seen.count()));
}

void page::rebuild_empty() noexcept {
    block* rebuilt = nullptr;
    for (int index = capacity.get(); index-- > 0;) {
        std::byte* const at = start + static_cast<std::size_t>(index) * block_bytes.get();
        rebuilt = ::new (at) block{rebuilt};
    }
    local = rebuilt;
    out.set(0);
}

void page::audit() const noexcept {
    int length = 0;
    for (block const* at = local; at != nullptr && length <= capacity.get(); at = at->next) {
        TARN_CHECK(pages.find(at) == this);
        TARN_CHECK(is_block_start(at));
        ++length;
    }
    TARN_CHECK(out.get() >= 0);
    TARN_CHECK(capacity.get() <= reserved);
    TARN_CHECK(outside() + length == capacity.get());
    TARN_CHECK(static_cast<int>(remote.load().count()) <= outside());
}

}  // namespace tarn::impl::heap
