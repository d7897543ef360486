// holder DOMAIN NAME LABEL COUNT - makes the segment where it is not there, attaches it, allocates
// COUNT chunks of 200 bytes, prints their references, and lives until its input ends.
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>

#include <tarn/shm.h>

int main(int argc, char** argv) {
    if (argc != 5) {
        return 2;
    }
    tarn_shm_pool pools[2]{};
    pools[0].chunk_bytes = 256;
    pools[0].count = 100;
    pools[1].chunk_bytes = 4096;
    pools[1].count = 10;
    pools[1].count_most = 40;
    tarn_shm_config config = TARN_SHM_CONFIG_DEFAULT;
    config.pools = pools;
    config.pool_count = 2;
    config.domain = argv[1];
    tarn_shm_failure failure;
    int const made = tarn_shm_create(argv[2], &config, &failure);
    if (made != 0 && made != TARN_SHM_EXISTS) {
        static_cast<void>(std::fprintf(stderr, "%s\n", failure.text));
        return 1;
    }
    tarn_shm_attaching attaching = TARN_SHM_ATTACHING_DEFAULT;
    attaching.domain = argv[1];
    attaching.label = argv[3];
    tarn_shm* const client = tarn_shm_attach(argv[2], &attaching, &failure);
    if (client == nullptr) {
        static_cast<void>(std::fprintf(stderr, "%s\n", failure.text));
        return 1;
    }
    for (int i = std::atoi(argv[4]); i > 0; --i) {
        tarn_shm_chunk chunk;
        if (tarn_shm_allocate(client, 200, 0, nullptr, &chunk) != 0) {
            return 1;
        }
        std::printf("0x%" PRIx64 "\n", chunk.reference);
    }
    std::printf("ready\n");
    static_cast<void>(std::fflush(stdout));
    char byte = 0;
    while (::read(STDIN_FILENO, &byte, 1) > 0) {
    }
    tarn_shm_detach(client);
    return 0;
}
