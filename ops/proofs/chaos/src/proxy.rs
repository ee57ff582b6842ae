//! The network between one worker and Postgres: a relay that can be cut, silenced or slowed, for all of the worker's
//! connections or only for those to one kind of database.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinHandle,
};

use crate::plan::Reach;

/// What the network does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Clear,
    /// Connections are closed, new ones refused.
    Cut(Reach),
    /// Nothing passes, and nobody is told.
    Silent(Reach),
    /// Everything passes late.
    Slow(Duration),
}

impl Weather {
    fn is_cut(self, is_control: bool) -> bool {
        matches!(self, Self::Cut(reach) if reach.meets(is_control))
    }

    fn is_silent(self, is_control: bool) -> bool {
        matches!(self, Self::Silent(reach) if reach.meets(is_control))
    }
}

impl Reach {
    fn meets(self, is_control: bool) -> bool {
        match self {
            Self::All => true,
            Self::Control => is_control,
            Self::Tenants => !is_control,
        }
    }
}

/// A relay; it ends when dropped, with all its connections.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    weather: watch::Sender<Weather>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of the loopback and relays to Postgres on this one.
    pub(crate) async fn start(postgres: u16, control: &'static str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("while opening a relay")?;
        let port = listener.local_addr()?.port();
        let (weather, forecast) = watch::channel(Weather::Clear);
        let postgres = SocketAddr::from(([127, 0, 0, 1], postgres));
        let accepting = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((client, _)) => drop(tokio::spawn(relay(client, postgres, control, forecast.clone()))),
                    // Out of descriptors for a moment.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(Self { port, weather, accepting })
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        // Its connections end with the sender.
    }
}

/// A connection: whatever ends it, both sides learn of it.
async fn relay(
    mut client: TcpStream,
    postgres: SocketAddr,
    control: &str,
    forecast: watch::Receiver<Weather>,
) {
    let Ok(startup) = startup(&mut client).await else { return };
    let is_control = database(&startup).is_some_and(|name| name == control.as_bytes());
    if forecast.borrow().is_cut(is_control) {
        return;
    }
    let Ok(mut server) = TcpStream::connect(postgres).await else { return };
    // Both talk in small messages, whose answers would else wait for an acknowledgement.
    let eager = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    if eager.is_err() || pass(&mut forecast.clone(), is_control).await.is_err() {
        return;
    }
    if server.write_all(&startup).await.is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(
        pump(from_client, to_server, forecast.clone(), is_control),
        pump(from_server, to_client, forecast, is_control),
    );
}

const STARTUP_BYTES_MAX: usize = 10_000;

/// The first message: its length, then its content.
async fn startup(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 4];
    client.read_exact(&mut message).await?;
    let length = usize::try_from(u32::from_be_bytes(message[..4].try_into().expect("four bytes were read")));
    let length = length.ok().filter(|length| (8..=STARTUP_BYTES_MAX).contains(length));
    message.resize(length.ok_or(io::ErrorKind::InvalidData)?, 0);
    client.read_exact(&mut message[4..]).await?;
    Ok(message)
}

/// The database that a startup message asks for; a request to cancel has none.
fn database(startup: &[u8]) -> Option<&[u8]> {
    let mut words = startup.get(8..)?.split(|byte| *byte == 0);
    loop {
        match (words.next()?, words.next()?) {
            (b"database", name) => return Some(name),
            (b"", _) => return None,
            _ => {}
        }
    }
}

struct Cut;

/// Waits until something may pass.
async fn pass(forecast: &mut watch::Receiver<Weather>, is_control: bool) -> Result<(), Cut> {
    loop {
        let weather = *forecast.borrow_and_update();
        match weather {
            weather if weather.is_cut(is_control) => return Err(Cut),
            weather if weather.is_silent(is_control) => forecast.changed().await.map_err(|_| Cut)?,
            Weather::Slow(delay) => {
                tokio::time::sleep(delay).await;
                return Ok(());
            }
            _ => return Ok(()),
        }
    }
}

async fn until_cut(forecast: &mut watch::Receiver<Weather>, is_control: bool) {
    // The sender is gone with the proxy, which cuts everything.
    let _gone = forecast.wait_for(|weather| weather.is_cut(is_control)).await;
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut forecast: watch::Receiver<Weather>,
    is_control: bool,
) {
    let mut watch = forecast.clone();
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            () = until_cut(&mut watch, is_control) => return,
            read = from.read(&mut bytes) => read.unwrap_or(0),
        };
        // An end is news too: in the silence nobody hears that the other side has died.
        if pass(&mut forecast, is_control).await.is_err() || read == 0 {
            return;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_read_from_the_startup_message() {
        let startup = b"\0\0\0\0\0\x03\0\0user\0postgres\0database\0control\0application_name\0x\0\0";
        assert_eq!(database(startup), Some(&b"control"[..]));
        assert_eq!(database(b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02"), None);
        assert_eq!(database(b"\0\0\0\0\0\x03\0\0user\0control\0\0"), None);
    }
}
