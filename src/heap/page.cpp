#include "heap/page.hpp"

#include "base/check.hpp"
#include "heap/host.hpp"
#include "heap/thread_heap.hpp"

namespace tarn::impl::heap {

void page::collect_remote() noexcept {
    remote_state const seen = remote.load();
    if (seen.list() == nullptr && seen.how() == hold::held) {
        return;
    }
    remote_state const taken = remote.take();
    block* const list = taken.list();
    if (list == nullptr) {
        return;
    }
    auto const count = static_cast<int>(taken.count());
    if (count > out.get()) {
        host_misuse({.kind = misuse_kind::double_free,
                     .operation = "free",
                     .ptr = list,
                     .block = list,
                     .block_bytes = block_bytes.get()});
        return;
    }
    if (local != nullptr) {
        block* last = list;
        for (int i = 1; i < count; ++i) {
            last = last->next;
        }
        last->next = local;
    }
    local = list;
    out.set(out.get() - count);
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
    TARN_CHECK(out.get() + length == capacity.get());
    TARN_CHECK(static_cast<int>(remote.load().count()) <= out.get());
}

}  // namespace tarn::impl::heap
