// A client of a segment that is told line by line what to do: `client DOMAIN`. One line of answer
// each: "ok ...", or "error CODE TEXT".
//
//     attach | allocate BYTES | check REFERENCE | hold REFERENCE | release REFERENCE | take_all
//     recover | audit | base | detach
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "tarn/shm.h"

#include "support/pattern.hpp"

namespace {

tarn_shm* client = nullptr;

void answer(int error, char const* text = "") {
    if (error == TARN_SHM_OK) {
        std::printf("ok\n");
    } else {
        std::printf("error %d %s\n", error, text);
    }
}

void answer_number(unsigned long long number) { std::printf("ok %llu\n", number); }

void attach(char const* domain) {
    tarn_shm_attaching asked = TARN_SHM_ATTACHING_DEFAULT;
    tarn_shm_failure failure{};
    asked.domain = domain;
    asked.label = "other program";
    client = tarn_shm_attach("pools", &asked, &failure);
    answer(failure.code, failure.text);
}

void allocate(std::uint64_t bytes) {
    tarn_shm_chunk chunk{};
    int const error = tarn_shm_allocate(client, bytes, 0, nullptr, &chunk);
    if (error != TARN_SHM_OK) {
        answer(error, tarn_shm_error_text(error));
        return;
    }
    tarn::test::fill(chunk.payload, static_cast<std::size_t>(bytes), chunk.reference);
    answer_number(chunk.reference);
}

bool is_intact(tarn_shm_chunk const& chunk) {
    return tarn::test::first_wrong(chunk.payload, static_cast<std::size_t>(chunk.payload_bytes),
                                   chunk.reference) == tarn::test::intact;
}

void look(int error, tarn_shm_chunk const& chunk) {
    if (error == TARN_SHM_OK && !is_intact(chunk)) {
        std::printf("wrong contents\n");
        return;
    }
    answer(error, tarn_shm_error_text(error));
}

void take_all(tarn_shm* by) {
    tarn_shm_chunk chunks[64];
    unsigned long long all = 0;
    for (std::uint32_t pool = 0; pool < TARN_SHM_POOLS_MAX; ++pool) {
        while (std::uint32_t const got = tarn_shm_take(by, pool, 64, chunks)) {
            all += got;
        }
    }
    answer_number(all);
}

void obey(char const* line, char const* domain) {
    char verb[32] = "";
    unsigned long long number = 0;
    if (std::sscanf(line, "%31s %llu", verb, &number) < 1) {
        answer(TARN_SHM_INVALID, "no command");
        return;
    }
    tarn_shm_chunk chunk{};
    if (std::strcmp(verb, "attach") == 0) {
        attach(domain);
    } else if (client == nullptr) {
        answer(TARN_SHM_INVALID, "not attached");
    } else if (std::strcmp(verb, "allocate") == 0) {
        allocate(number);
    } else if (std::strcmp(verb, "check") == 0) {
        look(tarn_shm_describe(client, number, &chunk), chunk);
    } else if (std::strcmp(verb, "hold") == 0) {
        look(tarn_shm_hold(client, number, &chunk), chunk);
    } else if (std::strcmp(verb, "release") == 0) {
        answer(tarn_shm_release(client, number));
    } else if (std::strcmp(verb, "take_all") == 0) {
        take_all(client);
    } else if (std::strcmp(verb, "recover") == 0) {
        answer_number(static_cast<unsigned long long>(tarn_shm_recover(client)));
    } else if (std::strcmp(verb, "audit") == 0) {
        answer_number(static_cast<unsigned long long>(tarn_shm_audit(client, nullptr, nullptr)));
    } else if (std::strcmp(verb, "base") == 0) {
        tarn_shm_info info{};
        info.size = sizeof info;
        tarn_shm_info_get(client, &info);
        answer_number(reinterpret_cast<std::uintptr_t>(info.base));
    } else if (std::strcmp(verb, "detach") == 0) {
        tarn_shm_detach(client);
        client = nullptr;
        answer(TARN_SHM_OK);
    } else {
        answer(TARN_SHM_INVALID, "unknown command");
    }
}

}  // namespace

int main(int count, char** arguments) {
    char line[128];
    while (count == 2 && std::fgets(line, sizeof line, stdin) != nullptr) {
        obey(line, arguments[1]);
        std::fflush(stdout);
    }
    return 0;
}
