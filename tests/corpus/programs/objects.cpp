// objects.cpp - the standard library's objects, and one's own, written to beyond their blocks or
// after them.
#include <list>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "bug.h"

namespace {

template <class T>
T* hidden(T* ptr) {
    return static_cast<T*>(hide(ptr));
}

struct account {
    long id;
    long balance;
};

void string_index() {
    std::string* const text = hidden(new std::string(40, 'x'));  // allocated
    (*text)[41] = 'y';  // its end is byte 40, the terminator's
    delete text;        // found
}

void string_data_kept() {
    std::string text(40, 'x');  // allocated
    char* const data = hidden(text.data());
    text.append(100, 'z');  // freed
    data[3] = 'y';
}

void vector_index() {
    auto* const numbers = hidden(new std::vector<int>(10));  // allocated
    (*numbers)[10] = 1;
    delete numbers;  // found
}

void vector_reference_kept() {
    std::vector<int> numbers{1, 2, 3, 4};  // allocated
    int* const first = hidden(&numbers.front());
    numbers.push_back(5);  // freed
    *first = 7;
}

void vector_iterator_after_clear() {
    std::vector<account> accounts(6);  // allocated
    auto* const stale = hidden(&accounts[2]);
    accounts.clear();
    accounts.shrink_to_fit();  // freed
    stale->balance = 100;
}

void list_erased() {
    std::list<long> numbers;
    numbers.push_back(1);  // allocated
    long* const value = hidden(&numbers.front());
    numbers.erase(numbers.begin());  // freed
    *value = 2;
}

void map_erased() {
    std::map<int, long> numbers;
    long* const value = hidden(&numbers[7]);  // allocated
    numbers.erase(7);                         // freed
    *value = 2;
}

void unique_ptr_moved() {
    auto owner = std::make_unique<account>();  // allocated
    account* const raw = hidden(owner.get());
    { std::unique_ptr<account> const taken = std::move(owner); }  // freed
    raw->balance = 1;
}

void shared_ptr_raw() {
    auto owner = std::make_shared<account>();  // allocated
    account* const raw = hidden(owner.get());
    owner.reset();  // freed
    raw->balance = 1;
}

void two_owners() {
    auto* const one = hidden(new account{});                 // allocated
    std::unique_ptr<account> const first{one};               // freed by whoever goes last
    { std::unique_ptr<account> const second{hidden(one)}; }  // freed
}  // found

void placement_beyond() {
    void* const memory = hide(::operator new(3 * sizeof(account) + 8));  // allocated
    for (int i = 0; i < 4; ++i) {
        ::new (static_cast<char*>(memory) + static_cast<std::size_t>(i) * sizeof(account))
            account{.id = i, .balance = 0};
        barrier();
    }
    ::operator delete(memory);  // found
}

void base_writes_derived() {
    struct small {
        long a;
    };

    struct large : small {
        long b;
    };

    auto* const made = hidden(new small{1});  // allocated
    static_cast<large*>(made)->b = 2;
    barrier();
    delete made;  // found
}

void member_of_deleted() {
    auto* const one = hidden(new account{});  // allocated
    delete one;                               // freed
    one->id = 9;
}

void delete_twice() {
    auto* const one = hidden(new account{});  // allocated
    delete one;                               // freed
    delete hidden(one);                       // found
}

void delete_member() {
    auto* const one = hidden(new account{});  // allocated
    delete hidden(&one->balance);             // found
    delete one;
}

void wrong_array_count() {
    auto* const table = hidden(new account[5]);  // allocated
    for (int i = 5; i >= 0; --i) {
        table[i] = {.id = i, .balance = i};
        barrier();
    }
    delete[] table;  // found
}

}  // namespace

struct bug const bugs[] = {{"string_index", string_index},
                           {"string_data_kept", string_data_kept},
                           {"vector_index", vector_index},
                           {"vector_reference_kept", vector_reference_kept},
                           {"vector_iterator_after_clear", vector_iterator_after_clear},
                           {"list_erased", list_erased},
                           {"map_erased", map_erased},
                           {"unique_ptr_moved", unique_ptr_moved},
                           {"shared_ptr_raw", shared_ptr_raw},
                           {"two_owners", two_owners},
                           {"placement_beyond", placement_beyond},
                           {"base_writes_derived", base_writes_derived},
                           {"member_of_deleted", member_of_deleted},
                           {"delete_twice", delete_twice},
                           {"delete_member", delete_member},
                           {"wrong_array_count", wrong_array_count},
                           {nullptr, nullptr}};
