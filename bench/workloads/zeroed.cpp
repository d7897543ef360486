// zeroed [ROUNDS] - memory that calloc promises to be zero.
//
// Each round takes a table of 1 to 32 MiB, of which it uses one 4 KiB page in 16, as a sparse table
// does, and 64 buffers of 4 to 64 KiB, which it fills. Some tables and 256 buffers are alive at a
// time, and what is freed is dirty. All that is used is checked to be zero first: so the cost is in
// knowing which memory is zero already, and in clearing the rest.
//
// Source     no paper: calloc under sparse hash tables and I/O buffers. Which memory need not be
//            cleared is a question since D. Lea's malloc, whose calloc skips fresh mappings
#include <array>

#include "support.hpp"

namespace {

using namespace bench;

constexpr std::size_t page_bytes = 4096;
constexpr std::size_t page_stride = 16;
constexpr std::size_t sample_stride = 64;
constexpr std::size_t live_tables = 3;
constexpr std::size_t live_buffers = 256;
constexpr std::size_t buffers_per_round = 64;
constexpr unsigned char dirt = 0xa5;

constexpr std::size_t MiB = std::size_t{1} << 20;

struct zeroed_block {
    unsigned char* bytes = nullptr;
    std::size_t size = 0;
};

/// Checks a byte in `sample_stride`, and the last, to be zero, and fills all.
void use(unsigned char* bytes, std::size_t size) {
    for (std::size_t offset = 0; offset < size; offset += sample_stride) {
        if (bytes[offset] != 0) {
            fail("calloc gave dirty memory");
        }
    }
    if (bytes[size - 1] != 0) {
        fail("calloc gave dirty memory");
    }
    std::memset(bytes, dirt, size);
}

/// Frees what is there. The new block may well be in its place.
void replace(zeroed_block& each, std::size_t size) {
    std::free(each.bytes);
    each.size = size;
    each.bytes = static_cast<unsigned char*>(std::calloc(size, 1));
    if (each.bytes == nullptr) {
        fail("out of memory");
    }
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t numbers[] = {140};
    parse_arguments(argc, argv, "zeroed [ROUNDS]", numbers);
    auto const [rounds] = numbers;
    random_stream random{1};
    std::array<zeroed_block, live_tables> tables{};
    std::array<zeroed_block, live_buffers> buffers{};
    std::uint64_t checksum = 0;
    for (std::uint64_t round = 0; round < rounds; ++round) {
        zeroed_block& table = tables[random.below(live_tables)];
        replace(table, random.between(1 * MiB, 32 * MiB));
        for (std::size_t offset = 0; offset + page_bytes <= table.size;
             offset += page_stride * page_bytes) {
            use(table.bytes + offset, page_bytes);
        }
        for (std::size_t count = 0; count < buffers_per_round; ++count) {
            zeroed_block& buffer = buffers[random.below(live_buffers)];
            replace(buffer, random.between(page_bytes, 16 * page_bytes));
            use(buffer.bytes, buffer.size);
            checksum = mix(checksum + buffer.size);
        }
    }
    for (zeroed_block const& each : tables) {
        std::free(each.bytes);
    }
    for (zeroed_block const& each : buffers) {
        std::free(each.bytes);
    }
    return finish("zeroed", checksum);
}
