//! The zlib-ng interface that flate2 asks for, implemented by zlib-rs.
//!
//! The one difference between the two interfaces is that zlib-ng declares the stream's allocator functions as plain
//! function pointers and zlib-rs as optional ones; in memory they are the same.
#![no_std]
#![allow(non_camel_case_types, non_snake_case, clippy::missing_safety_doc)]

use core::ffi::{c_char, c_int, c_uint};

pub use libz_rs_sys::{
    Bytef, Z_BLOCK, Z_BUF_ERROR, Z_DATA_ERROR, Z_DEFAULT_STRATEGY, Z_DEFLATED, Z_FINISH, Z_FULL_FLUSH,
    Z_MEM_ERROR, Z_NEED_DICT, Z_NO_FLUSH, Z_OK, Z_PARTIAL_FLUSH, Z_STREAM_END, Z_STREAM_ERROR, Z_SYNC_FLUSH,
    internal_state, uInt, uLong, uLongf, voidpf, zlibVersion,
};

pub type z_size = core::ffi::c_ulong;
pub type z_checksum = core::ffi::c_ulong;
pub type alloc_func = unsafe extern "C" fn(voidpf, uInt, uInt) -> voidpf;
pub type free_func = unsafe extern "C" fn(voidpf, voidpf);

#[repr(C)]
pub struct z_stream {
    pub next_in: *mut Bytef,
    pub avail_in: uInt,
    pub total_in: z_size,
    pub next_out: *mut Bytef,
    pub avail_out: uInt,
    pub total_out: z_size,
    pub msg: *mut c_char,
    pub state: *mut internal_state,
    pub zalloc: alloc_func,
    pub zfree: free_func,
    pub opaque: voidpf,
    pub data_type: c_int,
    pub adler: z_checksum,
    pub reserved: uLong,
}
pub type z_streamp = *mut z_stream;

const _: () = assert!(size_of::<z_stream>() == size_of::<libz_rs_sys::z_stream>());
const _: () = assert!(core::mem::offset_of!(z_stream, zalloc) == core::mem::offset_of!(libz_rs_sys::z_stream, zalloc));
const _: () = assert!(core::mem::offset_of!(z_stream, reserved) == core::mem::offset_of!(libz_rs_sys::z_stream, reserved));

macro_rules! forward {
    ($(fn $name:ident($($arg:ident: $type:ty),*);)*) => {$(
        pub unsafe extern "C" fn $name(strm: z_streamp, $($arg: $type),*) -> c_int {
            // SAFETY: the caller's promise on `strm`, and the same layout on both sides.
            unsafe { libz_rs_sys::$name(strm.cast(), $($arg),*) }
        }
    )*};
}

forward! {
    fn deflate(flush: c_int);
    fn deflateEnd();
    fn deflateInit2_(level: c_int, method: c_int, bits: c_int, mem: c_int, strategy: c_int, version: *const c_char, size: c_int);
    fn deflateParams(level: c_int, strategy: c_int);
    fn deflateReset();
    fn deflateSetDictionary(dictionary: *const Bytef, length: c_uint);
    fn inflate(flush: c_int);
    fn inflateEnd();
    fn inflateInit2_(bits: c_int, version: *const c_char, size: c_int);
    fn inflateReset2(bits: c_int);
    fn inflateSetDictionary(dictionary: *const Bytef, length: c_uint);
}
