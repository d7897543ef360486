#include "compare/markup.hpp"

namespace tarn::compare {

namespace {

/// How many bytes the character that `text` begins with has; 0: it is none.
std::size_t character_bytes(std::string_view text) {
    auto const first = static_cast<unsigned char>(text[0]);
    if (first < 0x80) {
        return first < 0x20 || first == 0x7f ? 0 : 1;
    }
    std::size_t const bytes = first >= 0xf0 && first < 0xf5   ? 4
                              : first >= 0xe0 && first < 0xf0 ? 3
                              : first >= 0xc2 && first < 0xe0 ? 2
                                                              : 0;
    if (bytes == 0 || bytes > text.size()) {
        return 0;
    }
    for (char const next : text.substr(1, bytes - 1)) {
        if ((static_cast<unsigned char>(next) & 0xc0) != 0x80) {
            return 0;
        }
    }
    // Overlong forms, surrogates, beyond the last character.
    auto const second = static_cast<unsigned char>(text[1]);
    bool const forbidden = (first == 0xe0 && second < 0xa0) || (first == 0xed && second >= 0xa0) ||
                           (first == 0xf0 && second < 0x90) || (first == 0xf4 && second >= 0x90);
    return forbidden ? 0 : bytes;
}

}  // namespace

std::string printable(std::string_view text, std::size_t bytes_max) {
    std::string result;
    while (!text.empty()) {
        std::size_t const bytes = character_bytes(text);
        std::string_view const next = bytes == 0 ? std::string_view{"?"} : text.substr(0, bytes);
        if (result.size() + next.size() > bytes_max) {
            break;
        }
        result += next;
        text.remove_prefix(bytes == 0 ? 1 : bytes);
    }
    return result;
}

std::string escaped(std::string_view text) {
    std::string result;
    for (char const letter : text) {
        switch (letter) {
            case '&':
                result += "&amp;";
                break;
            case '<':
                result += "&lt;";
                break;
            case '>':
                result += "&gt;";
                break;
            case '"':
                result += "&quot;";
                break;
            default:
                result += letter;
        }
    }
    return result;
}

}  // namespace tarn::compare
