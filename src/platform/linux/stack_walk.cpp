#include "platform/stack_walk.hpp"

#include <signal.h>
#include <ucontext.h>
#include <unwind.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <optional>

#include "base/attributes.hpp"
#include "base/bits.hpp"
#include "base/errno_keeper.hpp"
#include "platform/linux/code_objects.hpp"
#include "platform/linux/rule_cache.hpp"
#include "platform/linux/stack_window.hpp"
#include "platform/linux/unwind_rules.hpp"

extern "C" {
// Weak: a C program need not have them, and must not get libgcc_s through us.
_Unwind_Reason_Code _Unwind_Backtrace(_Unwind_Trace_Fn, void*) __attribute__((weak));
_Unwind_Ptr _Unwind_GetIP(_Unwind_Context*) __attribute__((weak));
}

namespace tarn::impl::platform {

namespace {

constinit rule_cache rules;
constinit code_objects objects;

/// Takes addresses as they are found, and leaves out those before `caller`.
class frame_sink {
public:
    frame_sink(std::span<void const*> to, void const* caller) noexcept
        : begin_{to.data()},
          end_{to.data() + to.size()},
          next_{to.data()},
          caller_{caller == nullptr ? not_looked_for : base::address_of(caller)} {}

    /// False: it wants no more.
    TARN_HOT bool add(std::uintptr_t pc) noexcept {
        if (pc == caller_) [[unlikely]] {
            caller_ = not_looked_for;  // recursion: the same address may come again
            if (next_ - begin_ < looked_at_max) {
                next_ = begin_;
            }
        }
        *next_++ = base::pointer_to(pc);
        return next_ != end_;
    }

    [[nodiscard]] std::size_t count() const noexcept {
        return static_cast<std::size_t>(next_ - begin_);
    }

private:
    static constexpr std::uintptr_t not_looked_for = ~std::uintptr_t{0};
    static constexpr std::ptrdiff_t looked_at_max = stack_callers_max;

    void const** begin_;
    void const** end_;
    void const** next_;
    std::uintptr_t caller_;
};

/// Takes the signature off a return address.
std::uintptr_t strip(std::uintptr_t address) noexcept {
#if defined(__aarch64__)
    register std::uintptr_t lr asm("x30") = address;
    asm("hint #7" : "+r"(lr));  // xpaclri; does nothing where there are no signatures
    return lr;
#else
    return address;
#endif
}

/// The registers in a ucontext_t, which a signal handler was given.
frame_registers registers_of(ucontext_t const& context) noexcept {
    mcontext_t const& saved = context.uc_mcontext;
#if defined(__x86_64__)
    return {.pc = static_cast<std::uintptr_t>(saved.gregs[REG_RIP]),
            .sp = static_cast<std::uintptr_t>(saved.gregs[REG_RSP]),
            .fp = static_cast<std::uintptr_t>(saved.gregs[REG_RBP]),
            .lr = 0};
#else
    return {.pc = saved.pc, .sp = saved.sp, .fp = saved.regs[29], .lr = strip(saved.regs[30])};
#endif
}

#if defined(__x86_64__)
// The kernel leaves the handler's return address and the ucontext_t on the stack.
constexpr std::size_t context_offset = 0;
constexpr std::size_t pc_offset = offsetof(ucontext_t, uc_mcontext.gregs) + REG_RIP * 8;
constexpr std::size_t sp_offset = offsetof(ucontext_t, uc_mcontext.gregs) + REG_RSP * 8;
constexpr std::size_t fp_offset = offsetof(ucontext_t, uc_mcontext.gregs) + REG_RBP * 8;
#else
constexpr std::size_t context_offset = sizeof(siginfo_t);
constexpr std::size_t pc_offset = offsetof(ucontext_t, uc_mcontext.pc);
constexpr std::size_t sp_offset = offsetof(ucontext_t, uc_mcontext.sp);
constexpr std::size_t fp_offset = offsetof(ucontext_t, uc_mcontext.regs) + 29 * 8;
constexpr std::size_t lr_offset = offsetof(ucontext_t, uc_mcontext.regs) + 30 * 8;
#endif

/// Whether the code at `pc` is what returns from a signal handler, `mov x8, 139; svc 0`: kernels
/// before 5.10 and emulators have no unwind tables for it. On x86-64 it is libc's, and has them.
bool is_signal_return(std::uintptr_t pc) noexcept {
#if defined(__aarch64__)
    constexpr std::array<std::uint8_t, 8> code{0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4};
    return is_readable(pc) && std::memcmp(base::pointer_to(pc), code.data(), code.size()) == 0;
#else
    static_cast<void>(pc);
    return false;
#endif
}

class walker {
public:
    enum class start : std::uint8_t {
        call,         // pc is a return address
        instruction,  // pc is where the thread is
    };

    explicit walker(frame_registers const& from) noexcept : now_{from} { window_.enter(now_.sp); }

    /// Walks outwards from the frame it was made with, which is not added.
    void by_tables(frame_sink& sink) noexcept {
        start how = start::instruction;
        while (step_slow(how) && now_.pc != 0 && sink.add(now_.pc)) {
            if (how == start::call && !walk_known(sink)) {
                return;
            }
        }
    }

    void by_frames(frame_sink& sink) noexcept {
        while (step_by_frame_pointer() && sink.add(now_.pc)) {
        }
    }

private:
    /// Steps over frames whose rules are kept, as far as it goes; false: that was all. What makes
    /// a warm walk quick: nothing of it lies in memory but the stack, the rules and the result.
    bool walk_known(frame_sink& to) noexcept {
        frame_sink sink = to;
        frame_registers now = now_;
        stack_window const window = window_;
        bool wants_more = true;
        while (wants_more) {
            auto const kept = rules.find(now.pc - 1);
            if (!kept || !was_seen(kept->object)) {
                break;
            }
            frame_rule const rule = unpack(kept->rule);
            if (rule.kind != rule_kind::step || !rule.is_ra_saved) {
                break;
            }
            // A branch, which is foreseen, and not a selection, which would have to wait.
            std::uintptr_t cfa = now.sp + offset(rule.cfa_offset);
            if (rule.base == cfa_base::fp) {
                cfa = now.fp + offset(rule.cfa_offset);
                __asm__("" : "+r"(cfa));
            }
            std::uintptr_t ra = 0;
            std::uintptr_t fp = now.fp;
            if (cfa <= now.sp || !window.has(cfa + offset(rule.ra_offset))) {
                break;
            }
            ra = stack_window::load(cfa + offset(rule.ra_offset));
            if (rule.is_fp_saved) {
                if (!window.has(cfa + offset(rule.fp_offset))) {
                    break;
                }
                fp = stack_window::load(cfa + offset(rule.fp_offset));
            }
            now = {.pc = strip(ra), .sp = cfa, .fp = fp, .lr = 0};
            if (now.pc == 0) {
                wants_more = false;
            } else {
                wants_more = sink.add(now.pc);
            }
        }
        now_ = now;
        to = sink;
        return wants_more;
    }

    TARN_HOT bool step_by(frame_rule const& rule) noexcept {
        std::uintptr_t const from = rule.base == cfa_base::fp ? now_.fp : now_.sp;
        return step_to(from + offset(rule.cfa_offset), now_.fp, rule);
    }

    bool step_to(std::uintptr_t cfa, std::uintptr_t fp, frame_rule const& rule) noexcept {
        // Outwards only: a walk ends. Only a frame that saved nothing can be empty.
        if (cfa < now_.sp || (cfa == now_.sp && rule.is_ra_saved)) {
            return false;
        }
        std::uintptr_t ra = now_.lr;
        if (rule.is_ra_saved && !window_.read(cfa + offset(rule.ra_offset), ra)) {
            return false;
        }
        if (rule.is_fp_saved && !window_.read(cfa + offset(rule.fp_offset), fp)) {
            return false;
        }
        now_ = {.pc = strip(ra), .sp = cfa, .fp = fp, .lr = 0};
        return true;
    }

    static std::uintptr_t offset(std::intptr_t bytes) noexcept {
        return static_cast<std::uintptr_t>(bytes);
    }

    /// Whether this walk found the object where it was when its rules were kept.
    [[nodiscard]] bool was_seen(object_slot slot) const noexcept {
        auto const number = static_cast<std::size_t>(slot);
        return slot == object_slot::permanent || (seen_[number / 64] >> number % 64 & 1) != 0;
    }

    bool is_there(object_slot slot, std::uintptr_t pc) noexcept {
        if (!was_seen(slot) && objects.is_there(slot, pc)) {
            auto const number = static_cast<std::size_t>(slot);
            seen_[number / 64] |= std::uint64_t{1} << number % 64;
        }
        return was_seen(slot);
    }

    /// A rule that is not kept yet, or can't be.
    TARN_COLD static frame_rule learn(std::uintptr_t pc) noexcept {
        auto const object = find_object(pc);
        if (!object) {
            return {};
        }
        frame_rule const rule = find_rule(object->tables, pc);
        if (auto const packed = pack(rule)) {
            object_slot const slot = objects.slot_of(*object);
            if (slot != object_slot::none) {
                rules.keep(pc, *packed, slot);
            }
        }
        return rule;
    }

    /// To the caller's frame; false: there is none, or no way to it. `how` is about the frame on
    /// entry, then about the caller's.
    TARN_NOINLINE bool step_slow(start& how) noexcept {
        bool const is_call = how == start::call;
        std::uintptr_t const pc = now_.pc - (is_call ? 1 : 0);
        how = start::call;
        auto const kept = rules.find(pc);
        frame_rule const rule = kept && is_there(kept->object, pc) ? unpack(kept->rule) : learn(pc);
        if (rule.kind == rule_kind::end) {
            return false;
        }
        if (rule.kind == rule_kind::step) {
            return rule.has_expression() ? step_by_expressions(rule) : step_by(rule);
        }
        if (rule.kind == rule_kind::signal || is_signal_return(now_.pc)) {
            how = start::instruction;
            return step_over_signal();
        }
        if (!is_call && !is_readable(now_.pc)) {
            return step_from_entry();
        }
        return step_by_frame_pointer();
    }

    /// Realigned stacks, stubs of the linker.
    TARN_COLD bool step_by_expressions(frame_rule rule) noexcept {
        auto const read = [](void* window, std::uintptr_t at, std::uintptr_t& value) noexcept {
            return static_cast<stack_window*>(window)->read(at, value);
        };
        std::uintptr_t const from = rule.base == cfa_base::fp ? now_.fp : now_.sp;
        auto cfa = std::optional{from + offset(rule.cfa_offset)};
        if (!rule.cfa_expression.empty()) {
            cfa = evaluate(rule.cfa_expression, now_, std::nullopt, read, &window_);
        }
        if (!cfa) {
            return false;
        }
        std::uintptr_t fp = now_.fp;
        if (!rule.fp_expression.empty()) {
            auto const at = evaluate(rule.fp_expression, now_, cfa, read, &window_);
            if (!at || !window_.read(*at, fp)) {
                return false;
            }
        }
        return step_to(*cfa, fp, rule);
    }

    bool step_over_signal() noexcept {
        std::uintptr_t const context = now_.sp + context_offset;
        frame_registers before;
        bool is_read = window_.read(context + pc_offset, before.pc) &&
                       window_.read(context + sp_offset, before.sp) &&
                       window_.read(context + fp_offset, before.fp);
#if defined(__aarch64__)
        is_read = is_read && window_.read(context + lr_offset, before.lr);
        before.lr = strip(before.lr);
#endif
        if (is_read) {
            now_ = before;
            window_.enter(now_.sp);  // the handler may have had a stack of its own
        }
        return is_read;
    }

    /// The thread jumped to where no code is: the call's return address is where calls put it.
    bool step_from_entry() noexcept {
        frame_rule rule;
        rule.kind = rule_kind::step;
#if defined(__x86_64__)
        rule.cfa_offset = 8;
        rule.ra_offset = -8;
#else
        rule.is_ra_saved = false;
#endif
        return step_by(rule);
    }

    /// A frame record - the caller's frame pointer, and above it the return address - is believed
    /// where it lies on the thread's own stack, outwards of what was walked.
    bool step_by_frame_pointer() noexcept {
        constexpr std::uintptr_t word = sizeof(std::uintptr_t);
        std::uintptr_t fp = 0;
        std::uintptr_t ra = 0;
        if (!window_.is_own() || now_.fp < now_.sp || !window_.read(now_.fp, fp) ||
            !window_.read(now_.fp + word, ra) || ra == 0) {
            return false;
        }
        now_ = {.pc = strip(ra), .sp = now_.fp + 2 * word, .fp = fp, .lr = 0};
        return true;
    }

    frame_registers now_;
    stack_window window_;
    std::array<std::uint64_t, 4> seen_{};  // a bit for each slot
};

struct libgcc_walk {
    frame_sink sink;
    bool is_first = true;  // the frame that calls _Unwind_Backtrace()
};

_Unwind_Reason_Code take_frame(_Unwind_Context* context, void* walk) noexcept {
    auto& to = *static_cast<libgcc_walk*>(walk);
    std::uintptr_t const pc = _Unwind_GetIP(context);
    bool const wants_more = to.is_first || (pc != 0 && to.sink.add(pc));
    to.is_first = false;
    return wants_more ? _URC_NO_REASON : _URC_END_OF_STACK;
}

bool has_libgcc() noexcept { return &_Unwind_Backtrace != nullptr && &_Unwind_GetIP != nullptr; }

/// What a walk by tables starts from: the calling function, as it is here. The rest is up to its
/// own unwind tables.
TARN_HOT frame_registers registers_here() noexcept {
    frame_registers here;
#if defined(__x86_64__)
    __asm__ volatile("leaq 0(%%rip), %0\n\tmovq %%rsp, %1\n\tmovq %%rbp, %2"
                     : "=&r"(here.pc), "=&r"(here.sp), "=&r"(here.fp));
#else
    __asm__ volatile("adr %0, .\n\tmov %1, sp\n\tmov %2, x29"
                     : "=&r"(here.pc), "=&r"(here.sp), "=&r"(here.fp));
#endif
    return here;
}

}  // namespace

TARN_NOINLINE std::size_t walk_stack(std::span<void const*> to, walk_method by,
                                     void const* caller) noexcept {
    if (to.empty()) {
        return 0;
    }
    if (by == walk_method::libgcc && has_libgcc()) {
        base::errno_keeper const kept;
        libgcc_walk walk{{to, caller}};
        _Unwind_Backtrace(&take_frame, &walk);
        return walk.sink.count();
    }
    frame_sink sink{to, caller};
    if (by == walk_method::frames) {
        // This function's own record leads to its caller. It lies above sp.
        auto const record = base::address_of(__builtin_frame_address(0));
        walker{{.pc = 0, .sp = record, .fp = record, .lr = 0}}.by_frames(sink);
    } else {
        walker{registers_here()}.by_tables(sink);
    }
    return sink.count();
}

std::size_t walk_interrupted(std::span<void const*> to, walk_method by,
                             void const* context) noexcept {
    if (to.empty()) {
        return 0;
    }
    frame_registers const start = registers_of(*static_cast<ucontext_t const*>(context));
    void const* const pc = base::pointer_to(start.pc);
    if (by == walk_method::libgcc && has_libgcc()) {
        base::errno_keeper const kept;
        // From here, through the handler: it began in the interrupted frame if that is found.
        libgcc_walk walk{{to, pc}};
        _Unwind_Backtrace(&take_frame, &walk);
        std::size_t const count = walk.sink.count();
        if (count != 0 && to[0] == pc) {
            return count;
        }
    }
    frame_sink sink{to, nullptr};
    if (sink.add(start.pc)) {
        walker walk{start};
        if (by == walk_method::frames) {
            walk.by_frames(sink);
        } else {
            walk.by_tables(sink);
        }
    }
    return sink.count();
}

void warm_up_stack_walk() noexcept {
    std::array<void const*, stack_frames_max> frames{};
    walk_stack(frames, walk_method::tables, nullptr);
}

}  // namespace tarn::impl::platform
