"""The layout of the C structures that XLA passes to a kernel, which reads them word by word.

`WORDS` has the place of each field.  The header that comes with jaxlib, `xla/ffi/api/c_api.h`, says where the installed
version puts it.
"""

import re
from pathlib import Path

import jax

MAJOR = 0
"""The major version of the interface.  The minor version counts additions; the layout shows if they move a field."""

WORDS = {
    "XLA_FFI_CallFrame": {
        "extension_start": 1,
        "api": 2,
        "ctx": 3,
        "args.args": 9,
        "rets.size": 12,
        "rets.rets": 14,
        "attrs.attrs": 20,
    },
    "XLA_FFI_Buffer": {"data": 3, "rank": 4, "dims": 5},
    "XLA_FFI_Scalar": {"value": 1},
    "XLA_FFI_Extension_Base": {"type": 1},
    "XLA_FFI_Metadata_Extension": {"metadata": 3},
    "XLA_FFI_Metadata": {"api_version.major_version": 3},
    "XLA_FFI_Api": {
        "api_version.major_version": 4,
        "XLA_FFI_Error_Destroy": 8,
        "XLA_FFI_ThreadPool_Schedule": 17,
        "XLA_FFI_ThreadPool_NumThreads": 18,
    },
    "XLA_FFI_Error_Destroy_Args": {"struct_size": 0, "extension_start": 1, "error": 2},
    "XLA_FFI_ThreadPool_NumThreads_Args": {"struct_size": 0, "extension_start": 1, "ctx": 2, "num_threads": 3},
    "XLA_FFI_ThreadPool_Schedule_Args": {"struct_size": 0, "extension_start": 1, "ctx": 2, "task": 3, "data": 4},
}
"""The fields that the kernels use, and the word of 8 bytes at which each begins."""

_FIELD = re.compile(r"(?:const\s+)?(?:struct\s+)?(?P<type>\w+)\s*(?P<pointer>\**)\s*(?P<name>\w+)")
_SIZES = {"int": 4, "int32_t": 4, "uint32_t": 4, "int64_t": 8, "uint64_t": 8, "size_t": 8}


def header() -> str:
    """Returns the text of the installed header, or an empty string if there is none."""
    try:
        return (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()
    except (AttributeError, OSError, ValueError):
        return ""


def mismatch(text: str) -> str:
    """Returns how a header differs from what the kernels expect, or an empty string."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"_XLA_FFI_API_STRUCT_FIELD\((\w+)\)", r"void* \1", text)
    text = text.replace("XLA_FFI_InternalExtension", "XLA_FFI_Extension_Base")  # its name in jaxlib 0.12
    major = re.search(r"#define XLA_FFI_API_MAJOR (\d+)", text)
    if major is None:
        return "the installed jaxlib has no header of XLA's interface for foreign functions"
    if int(major[1]) != MAJOR:
        return f"XLA's interface for foreign functions has major version {major[1]}, and they were written for {MAJOR}"
    if not re.search(r"\bXLA_FFI_Extension_Metadata = 1\b", text):
        return "XLA asks for a kernel's version in an unknown way"
    for struct, fields in WORDS.items():
        found = _layout(text, struct)[0]
        for field, word in fields.items():
            if found.get(field) != 8 * word:
                return f"{struct}.{field} of XLA's interface for foreign functions is not at byte {8 * word}"
    return ""


def _layout(text: str, struct: str) -> tuple[dict[str, int], int]:
    """Returns the byte offset of each field of a structure in the layout of C, and the structure's size.

    Names of fields of nested structures contain a dot.  An unknown type is taken for an enumeration of 4 bytes.
    """
    body = re.search(rf"struct {struct} {{(.*?)}}", text, re.DOTALL)
    fields: dict[str, int] = {}
    end, widest = 0, 1
    for declaration in body[1].split(";") if body else ():
        field = _FIELD.search(declaration)
        if field is None:
            continue
        name, kind = field["name"], field["type"]
        inner: dict[str, int] = {}
        size = 8 if field["pointer"] else _SIZES.get(kind, 4)
        if not field["pointer"] and re.search(rf"struct {kind} {{", text):
            inner, size = _layout(text, kind)
        alignment = min(size, 8)
        start = -(-end // alignment) * alignment
        fields |= {name: start} | {f"{name}.{part}": start + place for part, place in inner.items()}
        end, widest = start + size, max(widest, alignment)
    return fields, -(-end // widest) * widest
