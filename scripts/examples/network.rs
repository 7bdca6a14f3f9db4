// The same from Rust, without any crate. The declarations are those of model.h, for which bindgen would do as well.
use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_void};

const X: usize = 3 * 64 * 64; // MODEL_MAIN_X_ELEMS
const Y: usize = 10; // MODEL_MAIN_Y_ELEMS
const ABI: c_int = 3; // MODEL_ABI

extern "C" {
    fn model_abi_version() -> c_int;
    fn model_last_error() -> *const c_char;
    fn model_main(input: *const *const c_void, out: *const *mut c_void, workspace: *mut c_void) -> c_int;
}

fn scores(x: &[f32; X]) -> Result<[f32; Y], String> {
    let mut y = [0f32; Y];
    let input = [x.as_ptr() as *const c_void];
    let out = [y.as_mut_ptr() as *mut c_void];
    // Safe for arrays of these sizes; any number of threads may call.
    match unsafe { model_main(input.as_ptr(), out.as_ptr(), std::ptr::null_mut()) } {
        0 => Ok(y),
        _ => Err(unsafe { CStr::from_ptr(model_last_error()) }.to_string_lossy().into_owned()),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if unsafe { model_abi_version() } != ABI {
        return Err("the library is of another version than these declarations".into());
    }
    let bytes = std::fs::read("x.bin")?;
    let mut x = [0f32; X];
    for (value, four) in x.iter_mut().zip(bytes.chunks_exact(4)) {
        *value = f32::from_ne_bytes(four.try_into()?);
    }
    let y = scores(&x)?;
    let best = (0..Y).max_by(|&a, &b| y[a].total_cmp(&y[b])).unwrap();
    println!("class {best}, score {:.4}", y[best]);
    Ok(())
}
