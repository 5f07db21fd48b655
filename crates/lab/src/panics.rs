//! Panics during a play: its report names their place, instead of a message in the middle of the output.
//!
//! Owns the process's panic hook. Catches nothing: the player does. A panic outside of every play is printed as
//! usual, because the program must not end in silence.

use std::cell::{Cell, RefCell};
use std::panic;

thread_local! {
    static IS_PLAYING: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on a panic in a play prints nothing.
pub fn hush() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| match IS_PLAYING.get() {
        true => LAST.with(|last| *last.borrow_mut() = panic.location().map(ToString::to_string)),
        false => usual(panic),
    }));
}

/// Runs `play`, which catches its own panics. Returns also the place of the last panic, if there was one.
pub fn noticed<T>(play: impl FnOnce() -> T) -> (T, Option<String>) {
    IS_PLAYING.set(true);
    let played = play();
    IS_PLAYING.set(false);
    (played, LAST.take())
}
