#include "debug/json_writer.hpp"

namespace tarn::impl::debug {

namespace {

struct utf8_lead {
    std::size_t bytes;    // of the whole sequence; 0: no sequence begins so
    unsigned char least;  // of its second byte
    unsigned char most;
};

/// Table 3-7 of the Unicode Standard: no overlong form, no surrogate, nothing past U+10FFFF.
utf8_lead lead_of(unsigned char byte) noexcept {
    if (byte < 0x80) {
        return {.bytes = 1, .least = 0, .most = 0};
    }
    if (byte < 0xc2 || byte > 0xf4) {
        return {.bytes = 0, .least = 0, .most = 0};
    }
    std::size_t const bytes = byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
    return {.bytes = bytes,
            .least = static_cast<unsigned char>(byte == 0xe0   ? 0xa0
                                                : byte == 0xf0 ? 0x90
                                                               : 0x80),
            .most = static_cast<unsigned char>(byte == 0xed   ? 0x9f
                                               : byte == 0xf4 ? 0x8f
                                                              : 0xbf)};
}

/// Bytes of the UTF-8 sequence that `text` begins with; 0: it begins with none.
std::size_t sequence_bytes(std::string_view text) noexcept {
    auto const at = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    utf8_lead const lead = lead_of(at(0));
    if (lead.bytes > text.size()) {
        return 0;
    }
    for (std::size_t i = 1; i < lead.bytes; ++i) {
        if (at(i) < (i == 1 ? lead.least : 0x80) || at(i) > (i == 1 ? lead.most : 0xbf)) {
            return 0;
        }
    }
    return lead.bytes;
}

void escape(char character, base::text_sink& to) noexcept {
    switch (character) {
        case '"':
            to << "\\\"";
            break;
        case '\\':
            to << "\\\\";
            break;
        case '\n':
            to << "\\n";
            break;
        case '\t':
            to << "\\t";
            break;
        default:
            to << "\\u";
            to.hexadecimal(static_cast<unsigned char>(character), 4);
            break;
    }
}

}  // namespace

void json_writer::text(std::string_view value) noexcept {
    separate();
    to_ << '"';
    while (!value.empty()) {
        std::size_t const bytes = sequence_bytes(value);
        auto const first = static_cast<unsigned char>(value.front());
        if (bytes == 0) {
            to_ << "\\ufffd";
        } else if (bytes == 1 && (first < ' ' || first == '"' || first == '\\' || first == 0x7f)) {
            escape(value.front(), to_);
        } else {
            to_ << std::string_view{value.data(), bytes};
        }
        value.remove_prefix(bytes == 0 ? 1 : bytes);
    }
    to_ << '"';
}

}  // namespace tarn::impl::debug
