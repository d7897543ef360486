// Nobody knows which destructor to run.
// error: a pointer to void does not say what to do
#include <tarn/new.hpp>

#ifdef TARN_TEST_ALLOWED
using target = int;
#else
using target = void;
#endif

void end(target* object) { tarn::delete_object(object); }
