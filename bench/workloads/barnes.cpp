// barnes [BODIES [STEPS]] - gravity among many bodies, by the Barnes-Hut method.
//
// Each step builds an octree of the bodies, one operator new per node (120 bytes, leaves as well),
// sums up the forces on each body by a walk from the root, and frees the tree: many blocks of one
// size, taken in one order, visited many times in another, all freed before the next step.
//
// Source     J. Barnes, P. Hut, "A hierarchical O(N log N) force-calculation algorithm", Nature,
//            1986. As a benchmark of allocators: E. Berger et al., "Hoard", ASPLOS 2000; written
//            anew. Sums are made in a fixed order and rounded by IEEE 754 alone
#include <algorithm>
#include <array>
#include <cmath>

#include "support.hpp"

namespace {

using namespace bench;

// Bodies this close together share a leaf: 2^-40 of the root's edge.
constexpr unsigned depth_max = 40;
constexpr std::size_t children = 8;
// A walk keeps at most the untaken children of one node per level, and the last node's.
constexpr std::size_t stack_max = depth_max * (children - 1) + 1;
constexpr double opening = 1.0;  // a cell narrower than this times its distance counts as a point
constexpr double softening = 1e-4;  // squared; keeps near misses finite
constexpr double step_time = 1.0 / 64;
constexpr double grid = 1 << 20;  // positions are compared to this part of a unit

struct vector3 {
    double x = 0;
    double y = 0;
    double z = 0;

    vector3& operator+=(vector3 const& other) noexcept {
        x += other.x;
        y += other.y;
        z += other.z;
        return *this;
    }
};

vector3 operator-(vector3 const& a, vector3 const& b) noexcept {
    return {a.x - b.x, a.y - b.y, a.z - b.z};
}

vector3 operator*(vector3 const& a, double factor) noexcept {
    return {a.x * factor, a.y * factor, a.z * factor};
}

double square(vector3 const& a) noexcept { return a.x * a.x + a.y * a.y + a.z * a.z; }

struct body {
    vector3 place;
    vector3 speed;
    double mass = 0;
};

/// A cell and what is in it, as if all at one point. A leaf has no children, and one body, or at
/// depth_max any number.
struct node {
    std::array<node*, children> child{};
    vector3 centre;
    double mass = 0;
    double edge = 0;
    std::uint64_t bodies = 0;
    bool is_leaf = true;

    void add(body const& added) noexcept {
        mass += added.mass;
        centre += (added.place - centre) * (added.mass / mass);
        ++bodies;
    }
};

/// Which eighth of a cell has `place`; moves `middle` from the cell's to the eighth's.
std::size_t enter_octant(vector3 const& place, vector3& middle, double edge) noexcept {
    double const shift = edge / 4;
    std::size_t octant = 0;
    for (double vector3::*const axis : {&vector3::x, &vector3::y, &vector3::z}) {
        bool const is_above = place.*axis >= middle.*axis;
        octant = 2 * octant + (is_above ? 1 : 0);
        middle.*axis += is_above ? shift : -shift;
    }
    return octant;
}

/// Adds to each cell on the way to the body's own; a leaf on the way becomes a cell with one child.
void insert(node& root, body const& added) {
    vector3 middle;  // the root's is the origin
    node* current = &root;
    for (unsigned depth = 0; depth < depth_max && current->bodies != 0; ++depth) {
        if (current->is_leaf) {
            vector3 unused = middle;
            node* const resident = new node{*current};
            resident->edge = current->edge / 2;
            current->child[enter_octant(current->centre, unused, current->edge)] = resident;
            current->is_leaf = false;
        }
        current->add(added);
        node*& next = current->child[enter_octant(added.place, middle, current->edge)];
        if (next == nullptr) {
            next = new node;
            next->edge = current->edge / 2;
        }
        current = next;
    }
    current->add(added);
}

/// The nodes of a tree, each before its children, of which the caller chooses who is visited.
class walk {
public:
    explicit walk(node* root) noexcept { stack_[0] = root; }

    [[nodiscard]] bool is_done() const noexcept { return size_ == 0; }

    node* take() noexcept { return stack_[--size_]; }

    void add_children(node const& parent) noexcept {
        for (node* const child : parent.child) {
            if (child != nullptr) {
                stack_[size_++] = child;
            }
        }
    }

private:
    std::size_t size_ = 1;
    std::array<node*, stack_max> stack_;
};

node* build(std::vector<body> const& bodies) {
    double reach = 0;
    for (body const& each : bodies) {
        reach = std::max(
            {reach, std::abs(each.place.x), std::abs(each.place.y), std::abs(each.place.z)});
    }
    node* const root = new node;
    root->edge = 2 * reach;
    for (body const& each : bodies) {
        insert(*root, each);
    }
    return root;
}

/// Returns the number of bodies in the leaves.
std::uint64_t tear_down(node* root) {
    std::uint64_t bodies = 0;
    for (walk left{root}; !left.is_done();) {
        node* const current = left.take();
        left.add_children(*current);
        bodies += current->is_leaf ? current->bodies : 0;
        delete current;
    }
    return bodies;
}

vector3 acceleration(node* root, vector3 const& place) noexcept {
    vector3 sum;
    for (walk left{root}; !left.is_done();) {
        node const& current = *left.take();
        vector3 const offset = current.centre - place;
        double const distance2 = square(offset) + softening;
        if (current.is_leaf || current.edge * current.edge < opening * opening * distance2) {
            sum += offset * (current.mass / (distance2 * std::sqrt(distance2)));
        } else {
            left.add_children(current);
        }
    }
    return sum;
}

/// A ball of even density that turns around its z axis.
std::vector<body> make_bodies(std::uint64_t count) {
    random_stream random{1};
    auto const coordinate = [&] {
        return static_cast<double>(random.below(1 << 21)) / (1 << 20) - 1;
    };
    std::vector<body> bodies(count);
    for (body& each : bodies) {
        do {
            each.place = {coordinate(), coordinate(), coordinate()};
        } while (square(each.place) > 1);
        each.speed = {-each.place.y / 2, each.place.x / 2, 0};
        each.mass = 1 / static_cast<double>(count);
    }
    return bodies;
}

std::uint64_t quantised(double coordinate) noexcept {
    return static_cast<std::uint64_t>(std::llround(coordinate * grid));
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t numbers[] = {40'000, 4};
    parse_arguments(argc, argv, "barnes [BODIES [STEPS]]", numbers);
    auto const [count, steps] = numbers;
    std::vector<body> bodies = make_bodies(count);
    for (std::uint64_t step = 0; step < steps; ++step) {
        node* const root = build(bodies);
        for (body& each : bodies) {
            each.speed += acceleration(root, each.place) * step_time;
        }
        if (tear_down(root) != count) {
            fail("the tree lost bodies");
        }
        for (body& each : bodies) {
            each.place += each.speed * step_time;
        }
    }
    std::uint64_t checksum = 0;
    for (body const& each : bodies) {
        for (double const coordinate : {each.place.x, each.place.y, each.place.z}) {
            checksum = mix(checksum + quantised(coordinate));
        }
    }
    return finish("barnes", checksum);
}
