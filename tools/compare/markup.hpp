// compare/markup.hpp - text of unknown origin, made fit for terminals, XML and JSON.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tarn::compare {

/// At most `bytes_max` of `text`, cut between characters, with '?' for what is no character:
/// control bytes, and bytes that are not UTF-8.
std::string printable(std::string_view text, std::size_t bytes_max);

/// `text` as it must stand in an element or in an attribute between double quotes.
std::string escaped(std::string_view text);

}  // namespace tarn::compare
