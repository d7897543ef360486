// shm/failure.hpp - failure_note: an error and the line of text that goes with it.
//
// Threads    one at a time
// Cost       text is written only where the caller wants it
#pragma once

#include <cerrno>
#include <cstring>

#include "base/text.hpp"

#include "tarn/shm.h"

namespace tarn::impl::shm {

/// What the system's errno comes to.
constexpr tarn_shm_error meaning_of(int system) noexcept {
    switch (system) {
        case 0:
            return TARN_SHM_OK;
        case ENOENT:
        case ENOTDIR:
            return TARN_SHM_NOT_FOUND;
        case EEXIST:
            return TARN_SHM_EXISTS;
        case ENOSPC:
        case EDQUOT:
        case EFBIG:
            return TARN_SHM_FULL;
        case ENOMEM:
        case EMFILE:
        case ENFILE:
            return TARN_SHM_NO_MEMORY;
        case EACCES:
        case EPERM:
        case ELOOP:
        case EROFS:
            return TARN_SHM_DENIED;
        default:
            return TARN_SHM_SYSTEM;
    }
}

class failure_note {
public:
    explicit failure_note(tarn_shm_failure* to) noexcept : to_{to} {
        if (to_ != nullptr) {
            *to_ = {};
        }
    }

    /// For `return note.set(code, "segment '", name, "': it is ...")`.
    template <class... Parts>
    int set(tarn_shm_error code, Parts... parts) noexcept {
        write(code, 0, parts...);
        return code;
    }

    /// The same for what the system refused.
    template <class... Parts>
    int set_system(int system, Parts... parts) noexcept {
        tarn_shm_error const code = meaning_of(system);
        write(code, system, parts...);
        return code;
    }

private:
    template <class... Parts>
    void write(tarn_shm_error code, int system, Parts... parts) noexcept {
        if (to_ == nullptr) {
            return;
        }
        to_->code = code;
        to_->system = system;
        base::text_sink text{to_->text, sizeof to_->text - 1};
        static_cast<void>((text << ... << parts));
        if (system != 0) {
            text << ": " << ::strerrordesc_np(system);
        }
        to_->text[text.view().size()] = '\0';
    }

    tarn_shm_failure* to_;
};

}  // namespace tarn::impl::shm
