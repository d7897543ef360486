// endings.cpp - bugs of a process's last moments, of its children, and of libraries it closes.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "bug.h"

namespace {

char* kept;

void at_exit() {
    kept = block_of(24);  // allocated
    kept[24] = 'y';
}

void at_exit_large() {
    kept = static_cast<char*>(hide(malloc(2 << 20)));  // allocated
    kept[2 << 20] = 'y';
}

void in_atexit() {
    kept = block_of(24);  // allocated
    std::atexit([] {
        kept[24] = 'y';
        barrier();
        free(hide(kept));  // in_atexit: found
    });
}

struct at_the_end {
    char* row = nullptr;

    ~at_the_end() {
        if (row != nullptr) {
            row[30] = 'y';
            barrier();
            delete[] static_cast<char*>(hide(row));  // static_destructor: found
        }
    }
} last;

void static_destructor() {
    last.row = static_cast<char*>(hide(new char[30]));  // allocated
}

/// What a child ended with, on stdout.
void await(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    printf("child %d\n", WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
    fflush(stdout);
}

void in_a_child() {
    char* const row = block_of(24);  // allocated
    pid_t const child = fork();
    if (child == 0) {
        row[25] = 'y';
        barrier();
        free(hide(row));  // found
        _exit(0);
    }
    await(child);
    free(hide(row));
}

void at_exit_of_a_child() {
    char* const row = block_of(24);  // allocated
    pid_t const child = fork();
    if (child == 0) {
        free(hide(row));  // freed
        row[5] = 'y';
        barrier();
        std::exit(0);
    }
    await(child);
    free(hide(row));
}

void in_the_parent() {
    char* const row = block_of(24);  // allocated
    pid_t const child = fork();
    if (child == 0) {
        free(hide(row));
        _exit(0);
    }
    await(child);
    row[24] = 'y';
    barrier();
    free(hide(row));  // found
}

/// Where the driver's plugin is.
void* open_plugin() { return dlopen(std::getenv("TARN_TEST_PLUGIN"), RTLD_NOW); }

template <class Function>
Function* find(void* plugin, char const* name) {
    return reinterpret_cast<Function*>(dlsym(plugin, name));
}

void in_a_plugin() {
    void* const plugin = open_plugin();
    find<void()>(plugin, "break_and_free")();
    dlclose(plugin);
}

// The library that allocated is gone when the program frees, and with it the names of its lines:
// what is left are addresses, and whoever called the library.
void of_a_closed_plugin() {
    void* const plugin = open_plugin();
    auto* const row = static_cast<char*>(find<void*()>(plugin, "allocate_broken")());  // allocated
    dlclose(plugin);
    free(row);  // found
}

// It allocated, freed and wrote; the damage is found at exit.
void by_a_closed_plugin() {
    void* const plugin = open_plugin();
    find<void()>(plugin, "write_freed")();  // allocated, freed
    dlclose(plugin);
}

void in_a_constructor_of_a_plugin() {
    setenv("TARN_TEST_BREAK", "1", 1);
    dlclose(open_plugin());
}

void caught() {
    std::signal(SIGABRT, [](int) {
        char const text[] = "handled\n";
        _exit(write(STDOUT_FILENO, text, sizeof text - 1) > 0 ? 7 : 8);
    });
    char* const row = block_of(24);  // allocated
    row[24] = 'y';
    barrier();
    free(hide(row));  // found
}

void quick() {
    kept = block_of(24);
    kept[24] = 'y';
    barrier();
    puts("survived");
    fflush(stdout);
    _exit(0);
}

}  // namespace

struct bug const bugs[] = {{"at_exit", at_exit},
                           {"at_exit_large", at_exit_large},
                           {"in_atexit", in_atexit},
                           {"static_destructor", static_destructor},
                           {"in_a_child", in_a_child},
                           {"at_exit_of_a_child", at_exit_of_a_child},
                           {"in_the_parent", in_the_parent},
                           {"in_a_plugin", in_a_plugin},
                           {"of_a_closed_plugin", of_a_closed_plugin},
                           {"by_a_closed_plugin", by_a_closed_plugin},
                           {"in_a_constructor_of_a_plugin", in_a_constructor_of_a_plugin},
                           {"caught", caught},
                           {"quick", quick},
                           {nullptr, nullptr}};
