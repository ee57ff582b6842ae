//! Starts the server from a thread that never ends. The kernel sends the parent-death signal when the *thread* that
//! started a child ends, not the process; a thread of a runtime may end any time.

use std::io;
use std::process::{Child, Command};
use std::sync::{OnceLock, mpsc};
use std::thread;

struct Order {
    command: Command,
    answer: mpsc::Sender<io::Result<Child>>,
}

/// Starts the command from the keeper thread.
pub(super) fn spawn(command: Command) -> io::Result<Child> {
    static KEEPER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (sender, orders) = mpsc::channel();
        thread::spawn(move || keep(&orders));
        sender
    });
    let (answer, child) = mpsc::channel();
    keeper.send(Order { command, answer }).expect("the keeper ends only with its sender, which is static");
    child.recv().expect("the keeper answers every order")
}

fn keep(orders: &mpsc::Receiver<Order>) {
    for mut order in orders {
        // A caller that no longer listens leaves a child that nobody waits for; it dies with the process.
        drop(order.answer.send(order.command.spawn()));
    }
}
