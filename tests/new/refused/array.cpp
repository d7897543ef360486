// error: arrays are made by new_elements()
#include <tarn/new.hpp>

#ifdef TARN_TEST_ALLOWED
using made = int;
#else
using made = int[4];
#endif

void* make() { return tarn::new_object<made>(); }
