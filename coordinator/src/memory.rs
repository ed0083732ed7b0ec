//! Keeping the C library from holding on to memory. Does nothing where it is not glibc.

/// One heap for all threads. By default every thread that allocates gets one of its own, up to eight for each core, and
/// what is freed in one serves no other. To be called before there is a second thread.
///
/// Nothing here allocates often enough for threads to wait for each other: vectors are summed in place, and a message
/// takes a few pieces.
#[allow(unsafe_code)]
pub(crate) fn one_heap() {
    // SAFETY: `mallopt` takes two numbers and touches nothing that is in use (mallopt(3)). If it refuses, the default stays.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives back what was freed. A step's deliveries to a whole cohort are freed at once, in pieces that the C library keeps for
/// later; before the one large allocation of a round, the sum, they would count twice.
#[allow(unsafe_code)]
pub(crate) fn give_back() {
    // SAFETY: `malloc_trim` takes a number, touches nothing that is in use, and may be called from any thread at any time
    // (malloc_trim(3)).
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}
