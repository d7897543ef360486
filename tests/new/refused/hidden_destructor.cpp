// error: the destructor is not accessible, or may throw
#include <tarn/new.hpp>

class hidden {
#ifdef TARN_TEST_ALLOWED
public:
#endif
    ~hidden() = default;
};

void end(hidden* object) { tarn::delete_object(object); }
