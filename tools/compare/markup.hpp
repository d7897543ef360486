// compare/markup.hpp - text for XML and HTML.
#pragma once

#include <string>

namespace tarn::compare {

/// `text` as it must stand in an element or in an attribute between double quotes.
inline std::string escaped(std::string const& text) {
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
