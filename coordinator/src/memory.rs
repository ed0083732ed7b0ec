//! Giving memory back to the system.

/// Gives back what was freed. A step's deliveries to a whole cohort are freed at once, in pieces that the C library keeps for
/// later; before the one large allocation of a round, the sum, they would count twice. Does nothing where the C library
/// is not glibc.
#[allow(unsafe_code)]
pub(crate) fn give_back() {
    // SAFETY: `malloc_trim` takes a number, touches nothing that is in use, and may be called from any thread at any time
    // (malloc_trim(3)).
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}
