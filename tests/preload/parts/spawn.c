/* spawn.c - starts children in five ways while threads allocate; prints how many ended well. */
#define _GNU_SOURCE
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

enum { threads = 4, blocks = 500 };

static atomic_bool stop;
static char* arguments[] = {"/bin/true", NULL};

static void* churn(void* unused) {
    (void)unused;
    void* live[blocks] = {NULL};
    for (unsigned i = 0; !atomic_load_explicit(&stop, memory_order_relaxed); ++i) {
        unsigned const at = i * 7919u % blocks;
        free(live[at]);
        live[at] = malloc(i * 31u % 3000u + 1u);
        memset(live[at], 1, 1);
    }
    for (int i = 0; i < blocks; ++i) {
        free(live[i]);
    }
    return NULL;
}

static int ended_well(pid_t child) {
    int status = 1;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static pid_t by_vfork(void) {
    pid_t const child = vfork();
    if (child == 0) {
        execv(arguments[0], arguments);
        _exit(1);
    }
    return child;
}

static pid_t by_spawn(void) {
    pid_t child = -1;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", 0, 0);
    int const error = posix_spawn(&child, arguments[0], &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    return error == 0 ? child : -1;
}

/* The child of a threaded program allocates and ends as others do. */
static pid_t by_fork(int round) {
    pid_t const child = fork();
    if (child == 0) {
        char* text = strdup("grows");
        for (int i = 1; i < 200; ++i) {
            text = realloc(text, (size_t)(i * round + 10));
            free(malloc((size_t)(i * 50)));
        }
        exit(strcmp(text, "grows"));
    }
    return child;
}

static int by_popen(void) {
    FILE* const from = popen("echo words", "r");
    char line[16] = "";
    return fgets(line, sizeof line, from) != NULL && strcmp(line, "words\n") == 0 &&
           pclose(from) == 0;
}

int main(void) {
    pthread_t running[threads];
    for (int i = 0; i < threads; ++i) {
        pthread_create(&running[i], NULL, churn, NULL);
    }
    int vforked = 0;
    int spawned = 0;
    int forked = 0;
    int piped = 0;
    int by_shell = 0;
    for (int round = 0; round < 50; ++round) {
        vforked += ended_well(by_vfork());
        spawned += ended_well(by_spawn());
        forked += ended_well(by_fork(round));
        if (round % 5 == 0) {
            piped += by_popen();
            by_shell += system("exit 0") == 0;
        }
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < threads; ++i) {
        pthread_join(running[i], NULL);
    }
    printf("vfork %d, posix_spawn %d, fork %d, popen %d, system %d\n", vforked, spawned, forked,
           piped, by_shell);
    return 0;
}
