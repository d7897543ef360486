// large [ROUNDS] - buffers of 5 to 25 MB that come and go.
//
// 12 slots hold such blocks, about 180 MB; in each of ROUNDS rounds a random one is freed and
// another of a new size takes its place. Of each block the first 64 KiB are filled, and one byte in
// every 4 KiB after: all its memory becomes resident. Before it is freed all this is read again.
//
// Source     the pattern of "malloc-large" in mimalloc-bench, by D. Leijen; written anew
#include <array>

#include "support.hpp"

namespace {

using namespace bench;

constexpr std::size_t slot_count = 12;
constexpr std::uint64_t least_bytes = 5'000'000;
constexpr std::uint64_t most_bytes = 25'000'000;
constexpr std::size_t filled_bytes = 65'536;
constexpr std::size_t os_page_bytes = 4096;

struct buffer {
    unsigned char* address = nullptr;
    std::size_t bytes = 0;
    std::uint64_t tag = 0;

    [[nodiscard]] unsigned char filling() const { return static_cast<unsigned char>(tag); }

    void take(random_stream& random) {
        bytes = random.between(least_bytes, most_bytes);
        tag = random.next();
        address = static_cast<unsigned char*>(must_allocate(bytes));
        std::memset(address, filling(), filled_bytes);
        for (std::size_t offset = filled_bytes; offset < bytes; offset += os_page_bytes) {
            address[offset] = filling();
        }
    }

    [[nodiscard]] bool is_as_written() const {
        // All bytes are like the first when each is like the one before.
        bool good =
            address[0] == filling() && std::memcmp(address, address + 1, filled_bytes - 1) == 0;
        for (std::size_t offset = filled_bytes; offset < bytes; offset += os_page_bytes) {
            good = good && address[offset] == filling();
        }
        return good;
    }

    /// Returns the tag of what was freed.
    std::uint64_t give() {
        if (!is_as_written()) {
            fail("a block was overwritten");
        }
        std::free(address);
        return tag;
    }
};

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t numbers[] = {250};
    parse_arguments(argc, argv, "large [ROUNDS]", numbers);
    random_stream random{1};
    std::array<buffer, slot_count> slots{};
    for (buffer& slot : slots) {
        slot.take(random);
    }
    std::uint64_t sum = 0;
    for (std::uint64_t round = 0; round < numbers[0]; ++round) {
        buffer& slot = slots[random.below(slot_count)];
        sum += slot.give();
        slot.take(random);
    }
    for (buffer& slot : slots) {
        sum += slot.give();
    }
    return finish("large", sum);
}
