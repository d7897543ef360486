// debug/fault_handler.hpp - turns the fault of an access to an inaccessible page of a checked block
// into a finding.
//
// Threads    install_fault_handler(): once, at start. The handler is called by the thread that
//            faulted, in a signal handler, one thread at a time, on a stack of
//            platform::fault_stack_bytes. The thread may hold any lock: the handler takes none that
//            is held over an access to a block, and does not allocate.
// Always     faults elsewhere, and in a live block's own pages (that the program itself protected),
//            go on to whoever they were for: platform/fault_signal.hpp.
//            When the handler returns, the one OS page is made accessible, and the program goes on:
//            it reads zeros there, and writes where nobody looks, until the block's run is used
//            again. So each page is told once for each block, whatever on_misuse says; a handler
//            that wants to abort does so itself.
//            A system call that is handed such an address answers EFAULT: no fault, no finding.
// Source     docs/design/debug-pages.md
#pragma once

#include "platform/stack_walk.hpp"
#include "debug/checked_heap.hpp"

namespace tarn::impl::debug {

/// Findings are fault::bad_access: `ptr` is the address, `block` what is known of the block (state
/// unused: one that was there before), damage_first and damage_last where `ptr` lies relative to
/// it, `stack` where the access is. They are copied without a lock: of a block that another thread
/// frees at this moment, they may be half of then and half of now.
///
/// False: the system refuses, or it was done before.
[[nodiscard]] bool install_fault_handler(finding_handler handler,
                                         platform::walk_method walk) noexcept;

}  // namespace tarn::impl::debug
