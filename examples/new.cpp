// Objects made by new_object(), deleted through bases that do not lie at their start.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <tarn/new.hpp>

namespace {

struct drawn {
    virtual ~drawn() = default;
    virtual void draw() const = 0;
};

struct listed {
    virtual ~listed() = default;
    std::string title;
};

/// `listed` is its second base: a pointer to that is not where the memory begins.
struct label : drawn, listed {
    explicit label(std::string text) { title = std::move(text); }

    void draw() const override { std::printf("label %s\n", title.c_str()); }
};

/// Here plain new and delete do the same.
struct session : tarn::object_operators<session> {
    virtual ~session() = default;
};

struct secure_session : listed, session {
    char key[200] = {};
};

std::size_t live_blocks() {
    tarn_stats now{};
    now.size = sizeof now;
    return tarn_stats_get(&now) == 0 ? now.live_blocks : 0;
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): who has no memory for a label ends
int main() {
    auto* const first = tarn::new_object<label>("a");
    first->draw();
    std::size_t const before = live_blocks();
    tarn::delete_object(static_cast<listed*>(first));
    std::printf("blocks given back: %zu\n", before - live_blocks());

    // The deleter is one type for all: a pointer to a label becomes one to a base.
    std::vector<tarn::unique_object<listed>> list;
    list.push_back(tarn::make_unique_object<label>("b"));
    list.push_back(tarn::make_unique_object<secure_session>());
    list.clear();

    session* const open = new secure_session;
    std::printf("a session has a block of %zu bytes\n",
                tarn_block_at(dynamic_cast<void*>(open)).bytes);
    delete open;
    return live_blocks() == before - 1 ? 0 : 1;
}
