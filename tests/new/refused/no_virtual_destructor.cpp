// A derived object would lose its own destructor.
// error: has virtual functions but no virtual destructor
#include <tarn/new.hpp>

struct base {
#ifdef TARN_TEST_ALLOWED
    virtual ~base() = default;
#endif
    virtual void act() {}
};

void end(base* object) { tarn::delete_object(object); }
