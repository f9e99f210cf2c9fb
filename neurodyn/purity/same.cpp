// Whether Python objects hold the very same objects as before: what snapshot.py compares, in a hundredth of the time.
//
// Called with the GIL held. Everything that is used of Python is in its stable ABI, so that no header is needed.

#include <cstddef>
#include <cstdint>

extern "C" {
int PyDict_Next(void* dict, ptrdiff_t* position, void** key, void** value);
ptrdiff_t PyDict_Size(void* dict);
void* PyObject_GenericGetDict(void* object, void* closure);
void* PyObject_GetIter(void* object);
void* PyObject_Type(void* object);
void* PyIter_Next(void* iterator);
void Py_DecRef(void* object);
void PyErr_Clear();
}

namespace {

// A word of 0 stands for a value that may be any.
bool is_same_dict(void* dict, const intptr_t* held, int64_t n) {
  if (PyDict_Size(dict) != n) return false;
  ptrdiff_t position = 0;
  void *key, *value;
  for (; PyDict_Next(dict, &position, &key, &value); held += 2)
    if (reinterpret_cast<intptr_t>(key) != held[0] || (held[1] && reinterpret_cast<intptr_t>(value) != held[1])) return false;
  return true;
}

// The attributes of an object, n pairs, and behind them its class.
bool is_same_object(void* object, const intptr_t* held, int64_t n) {
  void* type = PyObject_Type(object);
  Py_DecRef(type);  // whose object goes on to hold it
  if (reinterpret_cast<intptr_t>(type) != held[2 * n]) return false;
  void* dict = PyObject_GenericGetDict(object, nullptr);
  const bool same = dict && is_same_dict(dict, held, n);
  if (dict) Py_DecRef(dict);
  return same;
}

bool is_same_sequence(void* sequence, const intptr_t* held, int64_t n) {
  void* iterator = PyObject_GetIter(sequence);
  if (!iterator) return false;
  int64_t k = 0;
  bool same = true;
  for (void* item; same && (item = PyIter_Next(iterator)); ++k) {
    Py_DecRef(item);  // which the sequence goes on to hold
    same = k < n && reinterpret_cast<intptr_t>(item) == held[k];
  }
  Py_DecRef(iterator);
  return same && k == n;
}

}  // namespace

// Each part is its kind (a dict, an object, a list or set), its object, the length n, and what that held. A kind below 0
// is the end. Objects are compared in order: one that is held by another comes after it.
extern "C" int is_same(const intptr_t* words) {
  while (words[0] >= 0) {
    void* object = reinterpret_cast<void*>(words[1]);
    const int64_t kind = words[0], n = words[2];
    const intptr_t* held = words + 3;
    const bool same = kind == 0   ? is_same_dict(object, held, n)
                      : kind == 1 ? is_same_object(object, held, n)
                                  : is_same_sequence(object, held, n);
    if (!same) {
      PyErr_Clear();
      return 0;
    }
    words = held + (kind == 0 ? 2 * n : kind == 1 ? 2 * n + 1 : n);
  }
  return 1;
}
