#include "shm/geometry.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "platform/shared_file.hpp"

namespace {

using namespace tarn::impl::shm;

constexpr std::size_t page_bytes = 4096;

int plan_of(std::vector<tarn_shm_pool> const& pools, header& planned, tarn_shm_failure& failure) {
    tarn_shm_config config = TARN_SHM_CONFIG_DEFAULT;
    config.pools = pools.data();
    config.pool_count = pools.size();
    failure_note note{&failure};
    return plan(config, page_bytes, planned, note);
}

tarn_shm_pool pool_of(std::uint64_t bytes, std::uint32_t count) {
    tarn_shm_pool pool{};
    pool.chunk_bytes = bytes;
    pool.count = count;
    return pool;
}

header finished() {
    header planned;
    tarn_shm_failure failure;
    tarn_shm_pool grows = pool_of(5000, 10);
    grows.count_most = 35;
    grows.alignment = 4096;
    grows.user_header_bytes = 24;
    EXPECT_EQ(plan_of({grows, pool_of(100, 1000)}, planned, failure), 0) << failure.text;
    unsigned char boot[16];
    tarn::impl::platform::read_boot_id(boot);
    std::memcpy(planned.boot_id.data(), boot, sizeof boot);
    planned.id = 7;
    planned.checksum = checksum_of(planned);
    return planned;
}

int check_it(header const& read, tarn_shm_failure& failure) {
    failure_note note{&failure};
    return check(read, read.file_bytes, page_bytes, "it", note);
}

TEST(geometry, lays_pools_out_in_rising_order_and_apart) {
    header const planned = finished();
    ASSERT_EQ(planned.pool_count, 2U);
    pool_row const& small = planned.pools[0];
    pool_row const& large = planned.pools[1];
    EXPECT_EQ(small.chunk_bytes, 100U);
    EXPECT_EQ(large.chunk_bytes, 5000U);
    EXPECT_EQ(small.count_most, 1000U);
    EXPECT_EQ(large.count_most, 35U);
    EXPECT_EQ(small.stride, 192U);  // 64 of header, 100, to a multiple of 64
    EXPECT_EQ(large.lead_bytes, 4096U);
    EXPECT_EQ(large.stride, 3U * 4096);
    EXPECT_EQ(large.payloads_at % 4096, 0U);
    EXPECT_GE(planned.slots_at, planned.shared_at + sizeof(shared_words));
    EXPECT_GE(small.truths_at,
              planned.slots_at + std::uint64_t{clients_most} * sizeof(client_slot));
    EXPECT_GE(small.hints_at, small.truths_at + std::uint64_t{8} * small.count_most);
    EXPECT_GE(large.truths_at, small.hints_at + std::uint64_t{8} * ((small.count_most + 63) / 64));
    EXPECT_GE(planned.payload_at, large.hints_at + 8);
    EXPECT_GE(small.payloads_at, planned.payload_at);
    EXPECT_GE(large.payloads_at, small.payloads_at + small.stride * small.count_most);
    EXPECT_EQ(planned.file_bytes, large.payloads_at + large.stride * large.count_most);
}

TEST(geometry, control_memory_of_ten_thousand_chunks_is_small) {
    header planned;
    tarn_shm_failure failure;
    ASSERT_EQ(plan_of({pool_of(1 << 20, 10'000)}, planned, failure), 0);
    EXPECT_LE(planned.payload_at, 1U << 20);
}

TEST(geometry, names_what_is_wrong_with_a_configuration) {
    struct wrong {
        tarn_shm_pool pool;
        char const* said;
    };

    tarn_shm_pool odd = pool_of(64, 1);
    odd.alignment = 48;
    tarn_shm_pool shrinks = pool_of(64, 10);
    shrinks.count_most = 9;
    tarn_shm_pool all_header = pool_of(64, 10);
    all_header.user_header_bytes = 64;
    for (wrong const& each :
         {wrong{pool_of(0, 1), "pools[1].chunk_bytes"}, wrong{pool_of(64, 0), "pools[1].count"},
          wrong{odd, "pools[1].alignment"}, wrong{shrinks, "pools[1].count_most"},
          wrong{all_header, "pools[1].user_header_bytes"},
          wrong{pool_of(32, 5), "chunk_bytes 32"},  // as the first
          wrong{pool_of(std::uint64_t{1} << 40, 300), "2^48"}}) {
        header planned;
        tarn_shm_failure failure;
        EXPECT_EQ(plan_of({pool_of(32, 1), each.pool}, planned, failure), TARN_SHM_INVALID);
        EXPECT_EQ(failure.code, TARN_SHM_INVALID);
        EXPECT_NE(std::string{failure.text}.find(each.said), std::string::npos) << failure.text;
    }
    header planned;
    tarn_shm_failure failure;
    EXPECT_EQ(plan_of({}, planned, failure), TARN_SHM_INVALID);
    EXPECT_EQ(plan_of(std::vector<tarn_shm_pool>(17, pool_of(64, 1)), planned, failure),
              TARN_SHM_INVALID);
}

TEST(geometry, takes_a_header_that_is_as_it_was_written) {
    tarn_shm_failure failure;
    EXPECT_EQ(check_it(finished(), failure), 0) << failure.text;
}

TEST(geometry, refuses_a_header_with_any_byte_changed) {
    header const good = finished();
    for (std::size_t i = 0; i < sizeof good; ++i) {
        header bad = good;
        reinterpret_cast<unsigned char*>(&bad)[i] ^= 0x40;
        tarn_shm_failure failure;
        int const error = check_it(bad, failure);
        ASSERT_TRUE(error == TARN_SHM_INCOMPATIBLE || error == TARN_SHM_DAMAGED) << i;
        ASSERT_GT(std::strlen(failure.text), 10U);
    }
}

/// Whoever can write a header can write its checksum, too.
TEST(geometry, refuses_a_header_that_would_lead_outside_of_the_file) {
    header const good = finished();
    for (std::size_t i = offsetof(header, id); i < offsetof(header, checksum); ++i) {
        for (unsigned const flip : {0x01U, 0x80U, 0xffU}) {
            header bad = good;
            reinterpret_cast<unsigned char*>(&bad)[i] ^= static_cast<unsigned char>(flip);
            bad.checksum = checksum_of(bad);
            tarn_shm_failure failure;
            failure_note note{&failure};
            if (check(bad, good.file_bytes, page_bytes, "it", note) == 0) {
                // What it changed says nothing of where anything lies.
                for (std::size_t pool = 0; pool < good.pool_count; ++pool) {
                    pool_row const& now = bad.pools[pool];
                    pool_row const& then = good.pools[pool];
                    ASSERT_EQ(now.stride, then.stride) << i;
                    ASSERT_EQ(now.payloads_at, then.payloads_at) << i;
                    ASSERT_EQ(now.truths_at, then.truths_at) << i;
                    ASSERT_EQ(now.hints_at, then.hints_at) << i;
                    ASSERT_EQ(now.count_most, then.count_most) << i;
                    ASSERT_LE(now.lead_bytes + now.chunk_bytes, now.stride) << i;
                }
                ASSERT_EQ(bad.payload_at, good.payload_at);
                ASSERT_EQ(bad.shared_at, good.shared_at);
                ASSERT_EQ(bad.slots_at, good.slots_at);
                ASSERT_EQ(bad.pool_count, good.pool_count);
            }
        }
    }
}

TEST(geometry, checksum_is_crc_32c) {
    // "123456789" has 0xe3069283, which the first bytes of a header can't be; so by its property:
    // all messages of one length differ by a linear function.
    header a{};
    header b{};
    header c{};
    reinterpret_cast<unsigned char*>(&a)[3] = 0x5a;
    reinterpret_cast<unsigned char*>(&b)[900] = 0xc3;
    reinterpret_cast<unsigned char*>(&c)[3] = 0x5a;
    reinterpret_cast<unsigned char*>(&c)[900] = 0xc3;
    EXPECT_EQ(checksum_of(a) ^ checksum_of(b) ^ checksum_of(c), checksum_of(header{}));
    EXPECT_NE(checksum_of(a), checksum_of(b));
}

TEST(references, have_all_their_parts) {
    reference_parts const parts{
        .segment = 0xfedc, .pool = 15, .number = (1U << 28) - 1, .now = generation{0xabcd}};
    std::uint64_t const reference = reference_of(parts);
    reference_parts const again = parts_of(reference);
    EXPECT_EQ(again.segment, parts.segment);
    EXPECT_EQ(again.pool, parts.pool);
    EXPECT_EQ(again.number, parts.number);
    EXPECT_EQ(again.now, parts.now);
    EXPECT_EQ(parts_of(reference_of({.segment = 1, .pool = 0, .number = 0, .now = {}})).segment,
              1U);
}

}  // namespace
