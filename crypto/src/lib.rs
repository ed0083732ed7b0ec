//! What every party of a Consilium must compute alike.
#![no_std]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;
