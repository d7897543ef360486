#include "platform/linux/unwind_rules.hpp"

#include <array>
#include <cstring>

#include "base/bits.hpp"
#include "platform/linux/unwind_bytes.hpp"

namespace tarn::impl::platform {

namespace {

/// Opens the entry of .eh_frame at `at`: what follows its length.
byte_reader open_entry(std::uintptr_t at, unwind_tables const& tables) noexcept {
    if (at < tables.start) {
        return {1, 0};
    }
    byte_reader all{at, tables.end};
    std::uint64_t bytes = all.get<std::uint32_t>();
    if (bytes == 0xffff'ffff) {
        bytes = all.get<std::uint64_t>();
    }
    return all.part(bytes);
}

/// What the functions of one common entry (CIE) share.
struct common_entry {
    bool is_known = false;
    bool is_signal = false;
    bool has_augmentation = false;
    std::uint8_t pointer_encoding = 0;
    std::uint64_t code_factor = 0;
    std::int64_t data_factor = 0;
    byte_reader instructions{0, 0};
};

common_entry read_common(std::uintptr_t at, unwind_tables const& tables) noexcept {
    common_entry result;
    byte_reader in = open_entry(at, tables);
    auto const id = in.get<std::uint32_t>();
    auto const version = in.get<std::uint8_t>();
    constexpr std::size_t letters_max = 8;
    std::array<char, letters_max> letters{};
    std::size_t count = 0;
    for (char letter = in.get<char>(); letter != '\0' && count < letters_max;
         letter = in.get<char>()) {
        letters[count++] = letter;
    }
    result.code_factor = in.unsigned_leb();
    result.data_factor = in.signed_leb();
    std::uint64_t const column = version == 1 ? in.get<std::uint8_t>() : in.unsigned_leb();
    if (in.has_failed() || id != 0 || (version != 1 && version != 3) || count == letters_max ||
        column != ra_column) {
        return result;
    }
    if (count != 0) {
        if (letters[0] != 'z') {
            return result;  // from before GCC 3
        }
        result.has_augmentation = true;
        byte_reader data = in.part(in.unsigned_leb());
        for (std::size_t i = 1; i < count; ++i) {
            switch (letters[i]) {
                case 'R':
                    result.pointer_encoding = data.get<std::uint8_t>();
                    break;
                case 'P': {
                    auto const encoding = data.get<std::uint8_t>();
                    data.encoded(encoding & 0x7f, 0);
                    break;
                }
                case 'L':
                    data.skip(1);
                    break;
                case 'S':
                    result.is_signal = true;
                    break;
                case 'B':  // return addresses are signed with the other key: stripped all the same
                case 'G':  // memory tags
                    break;
                default:
                    return result;
            }
        }
        if (data.has_failed()) {
            return result;
        }
    }
    result.instructions = in;
    result.is_known = !in.has_failed();
    return result;
}

/// Where a register of the caller is.
struct place {
    enum class how : std::uint8_t { same, undefined, offset, expression, other };
    how where = how::same;
    std::int64_t offset = 0;
    std::span<std::byte const> expression;
};

/// One row of the table that the instructions stand for.
struct row {
    std::uint64_t cfa_column = ~std::uint64_t{0};
    std::int64_t cfa_offset = 0;
    std::span<std::byte const> cfa_expression;
    place fp;
    place ra;
};

/// Runs call-frame instructions up to the row for one address.
class row_machine {
public:
    row_machine(common_entry const& common, std::uintptr_t start, std::uintptr_t target) noexcept
        : common_{common}, at_{start}, target_{target} {}

    /// False: an instruction that is not known here.
    bool run(byte_reader in, std::uintptr_t data) noexcept {
        // Each instruction takes a byte at least.
        while (!in.is_done() && at_ <= target_) {
            if (!run_one(in, data) || in.has_failed()) {
                return false;
            }
        }
        return true;
    }

    /// The row so far is what the common entry says: what `restore` goes back to.
    void begin_function() noexcept { initial_ = now; }

    row now;

private:
    static constexpr std::size_t remembered_max = 4;

    place* place_of(std::uint64_t column) noexcept {
        return column == fp_column ? &now.fp : column == ra_column ? &now.ra : nullptr;
    }

    void set(std::uint64_t column, place value) noexcept {
        if (place* const it = place_of(column)) {
            *it = value;
        }
    }

    void set_offset(std::uint64_t column, std::int64_t factored) noexcept {
        set(column, {.where = place::how::offset, .offset = product(factored), .expression = {}});
    }

    [[nodiscard]] std::int64_t product(std::int64_t factored) const noexcept {
        return static_cast<std::int64_t>(static_cast<std::uint64_t>(factored) *
                                         static_cast<std::uint64_t>(common_.data_factor));
    }

    void restore(std::uint64_t column) noexcept {
        if (column == fp_column) {
            now.fp = initial_.fp;
        } else if (column == ra_column) {
            now.ra = initial_.ra;
        }
    }

    void advance(std::uint64_t factored) noexcept { at_ += factored * common_.code_factor; }

    static std::span<std::byte const> block(byte_reader& in) noexcept {
        return in.part(in.unsigned_leb()).rest();
    }

    bool run_one(byte_reader& in, std::uintptr_t data) noexcept;
    bool run_extended(std::uint8_t code, byte_reader& in, std::uintptr_t data) noexcept;

    common_entry const& common_;
    std::uintptr_t at_;
    std::uintptr_t target_;
    row initial_;
    std::array<row, remembered_max> remembered_{};
    std::size_t remembered_count_ = 0;
};

bool row_machine::run_one(byte_reader& in, std::uintptr_t data) noexcept {
    auto const code = in.get<std::uint8_t>();
    std::uint8_t const low = code & 0x3f;
    switch (code >> 6) {
        case 1:
            advance(low);
            return true;
        case 2:
            set_offset(low, static_cast<std::int64_t>(in.unsigned_leb()));
            return true;
        case 3:
            restore(low);
            return true;
        default:
            return run_extended(code, in, data);
    }
}

bool row_machine::run_extended(std::uint8_t code, byte_reader& in, std::uintptr_t data) noexcept {
    switch (code) {
        case 0x00:  // nop
        case 0x2d:  // AARCH64_negate_ra_state: signatures are stripped always
            return true;
        case 0x01:  // set_loc
            at_ = in.encoded(common_.pointer_encoding, data);
            return true;
        case 0x02:
            advance(in.get<std::uint8_t>());
            return true;
        case 0x03:
            advance(in.get<std::uint16_t>());
            return true;
        case 0x04:
            advance(in.get<std::uint32_t>());
            return true;
        case 0x05: {  // offset_extended
            std::uint64_t const column = in.unsigned_leb();
            set_offset(column, static_cast<std::int64_t>(in.unsigned_leb()));
            return true;
        }
        case 0x06:  // restore_extended
            restore(in.unsigned_leb());
            return true;
        case 0x07:  // undefined
            set(in.unsigned_leb(), {.where = place::how::undefined, .offset = 0, .expression = {}});
            return true;
        case 0x08:  // same_value
            set(in.unsigned_leb(), {});
            return true;
        case 0x09: {  // register
            std::uint64_t const column = in.unsigned_leb();
            in.unsigned_leb();
            set(column, {.where = place::how::other, .offset = 0, .expression = {}});
            return true;
        }
        case 0x0a:  // remember_state
            if (remembered_count_ == remembered_max) {
                return false;
            }
            remembered_[remembered_count_++] = now;
            return true;
        case 0x0b:  // restore_state
            if (remembered_count_ == 0) {
                return false;
            }
            now = remembered_[--remembered_count_];
            return true;
        case 0x0c:  // def_cfa
            now.cfa_column = in.unsigned_leb();
            now.cfa_offset = static_cast<std::int64_t>(in.unsigned_leb());
            now.cfa_expression = {};
            return true;
        case 0x0d:  // def_cfa_register
            now.cfa_column = in.unsigned_leb();
            now.cfa_expression = {};
            return true;
        case 0x0e:  // def_cfa_offset
            now.cfa_offset = static_cast<std::int64_t>(in.unsigned_leb());
            return true;
        case 0x0f:  // def_cfa_expression
            now.cfa_expression = block(in);
            return true;
        case 0x10: {  // expression
            std::uint64_t const column = in.unsigned_leb();
            set(column, {.where = place::how::expression, .offset = 0, .expression = block(in)});
            return true;
        }
        case 0x11: {  // offset_extended_sf
            std::uint64_t const column = in.unsigned_leb();
            set_offset(column, in.signed_leb());
            return true;
        }
        case 0x12:  // def_cfa_sf
            now.cfa_column = in.unsigned_leb();
            now.cfa_offset = product(in.signed_leb());
            now.cfa_expression = {};
            return true;
        case 0x13:  // def_cfa_offset_sf
            now.cfa_offset = product(in.signed_leb());
            return true;
        case 0x14:    // val_offset
        case 0x15: {  // val_offset_sf
            std::uint64_t const column = in.unsigned_leb();
            in.unsigned_leb();
            set(column, {.where = place::how::other, .offset = 0, .expression = {}});
            return true;
        }
        case 0x16: {  // val_expression
            std::uint64_t const column = in.unsigned_leb();
            block(in);
            set(column, {.where = place::how::other, .offset = 0, .expression = {}});
            return true;
        }
        case 0x2e:  // GNU_args_size
            in.unsigned_leb();
            return true;
        case 0x2f: {  // GNU_negative_offset_extended
            std::uint64_t const column = in.unsigned_leb();
            set_offset(column, -static_cast<std::int64_t>(in.unsigned_leb()));
            return true;
        }
        default:
            return false;
    }
}

frame_rule rule_of(row const& it) noexcept {
    frame_rule rule;
    if (it.ra.where == place::how::undefined) {
        rule.kind = rule_kind::end;
        return rule;
    }
    bool const is_ra_saved = it.ra.where == place::how::offset;
    bool const is_ra_known =
        is_ra_saved || (it.ra.where == place::how::same && ra_column != 16);  // no lr on x86-64
    bool const is_cfa_known =
        !it.cfa_expression.empty() || it.cfa_column == sp_column || it.cfa_column == fp_column;
    if (!is_ra_known || !is_cfa_known || it.fp.where == place::how::other) {
        return rule;
    }
    rule.kind = rule_kind::step;
    rule.base = it.cfa_column == fp_column ? cfa_base::fp : cfa_base::sp;
    rule.is_ra_saved = is_ra_saved;
    rule.is_fp_saved = it.fp.where == place::how::offset;
    rule.cfa_offset = it.cfa_offset;
    rule.ra_offset = it.ra.offset;
    rule.fp_offset = it.fp.offset;
    rule.cfa_expression = it.cfa_expression;
    rule.fp_expression = it.fp.expression;
    return rule;
}

/// The entry of the function at or below `pc`, by the table in .eh_frame_hdr; 0: there is none.
std::uintptr_t find_entry(unwind_tables const& tables, std::uintptr_t pc) noexcept {
    struct table_row {
        std::int32_t function;  // both count from the header
        std::int32_t entry;
    };

    byte_reader in{tables.header, tables.end};
    auto const version = in.get<std::uint8_t>();
    auto const frame_encoding = in.get<std::uint8_t>();
    auto const count_encoding = in.get<std::uint8_t>();
    auto const table_encoding = in.get<std::uint8_t>();
    constexpr std::uint8_t omitted = 0xff;
    constexpr std::uint8_t data_relative_4 = 0x3b;  // what all linkers write
    if (version != 1 || count_encoding == omitted || table_encoding != data_relative_4) {
        return 0;
    }
    if (frame_encoding != omitted) {
        in.encoded(frame_encoding, tables.header);
    }
    std::uint64_t const count = in.encoded(count_encoding, tables.header);
    std::uintptr_t const table = in.at();
    if (in.has_failed() || count > (tables.end - table) / sizeof(table_row)) {
        return 0;
    }
    auto const offset = static_cast<std::int64_t>(pc - tables.header);
    auto const row_at = [&](std::uint64_t index) noexcept {
        table_row result;
        std::memcpy(&result, base::pointer_to(table + index * sizeof result), sizeof result);
        return result;
    };
    std::uint64_t low = 0;  // rows below start at or below pc
    std::uint64_t high = count;
    while (low < high) {
        std::uint64_t const middle = (low + high) / 2;
        if (row_at(middle).function <= offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0
               ? 0
               : tables.header +
                     static_cast<std::uintptr_t>(static_cast<std::int64_t>(row_at(low - 1).entry));
}

}  // namespace

frame_rule find_rule(unwind_tables const& tables, std::uintptr_t pc) noexcept {
    if (tables.header < tables.start || tables.header >= tables.end) {
        return {};
    }
    std::uintptr_t const entry = find_entry(tables, pc);
    if (entry == 0) {
        return {};
    }
    byte_reader in = open_entry(entry, tables);
    std::uintptr_t const back_from = in.at();
    auto const back = in.get<std::uint32_t>();
    if (in.has_failed() || back == 0) {
        return {};
    }
    common_entry const common = read_common(back_from - back, tables);
    if (!common.is_known) {
        return {};
    }
    std::uintptr_t const start = in.encoded(common.pointer_encoding, tables.header);
    std::uintptr_t const bytes = in.encoded(common.pointer_encoding & 0x0f, 0);
    if (common.has_augmentation) {
        in.skip(in.unsigned_leb());
    }
    if (in.has_failed() || pc - start >= bytes) {
        return {};
    }
    frame_rule rule;
    if (common.is_signal) {
        rule.kind = rule_kind::signal;
        return rule;
    }
    row_machine machine{common, start, pc};
    if (!machine.run(common.instructions, tables.header)) {
        return {};
    }
    machine.begin_function();
    if (!machine.run(in, tables.header)) {
        return {};
    }
    return rule_of(machine.now);
}

}  // namespace tarn::impl::platform
