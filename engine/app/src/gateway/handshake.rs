//! The client's first words: the X.224 request, its refusals, and the answer to the strangers that knock on every port.

use std::io;
use std::time::Duration;

use deskreel_config::ClientSecurity;
use deskreel_rdp::wire::x224::{ConnectionRequest, OpeningError, connection_failure, failure, find_opening, protocol};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::end::{EndReason, Ended};

/// How long a refused peer may take to read its refusal. Only bounds the polite part: nothing else waits for it.
const LINGER: Duration = Duration::from_secs(1);

/// Reads the connection request and not a byte more.
///
/// Not cancel-safe: what was read is lost.
///
/// # Errors
/// Each kind of stranger has its own reason.
pub(super) async fn read_opening<S: AsyncBufRead + Unpin>(stream: &mut S) -> Result<ConnectionRequest, Ended> {
    let mut opening = Vec::new();
    loop {
        let missing = match find_opening(&opening).map_err(|error| stranger(&error))? {
            Some(length) if opening.len() >= length => break,
            Some(length) => length - opening.len(),
            // cannot be told yet: one byte at a time, so that nothing behind the request is taken
            None => 1,
        };
        match take(stream, missing, &mut opening).await {
            Ok(0) if opening.is_empty() => {
                return Err(Ended::new(EndReason::PortScan, "peer closed without sending a byte"));
            }
            Ok(0) => {
                return Err(Ended::new(
                    EndReason::X224Truncated,
                    format!("peer closed after {} bytes of its connection request", opening.len()),
                ));
            }
            Ok(_) => {}
            Err(error) if opening.is_empty() => {
                return Err(Ended::new(EndReason::PortScan, format!("peer sent nothing: {error}")));
            }
            Err(error) => {
                return Err(Ended::new(
                    EndReason::X224Truncated,
                    format!("after {} bytes of the connection request: {error}", opening.len()),
                ));
            }
        }
    }
    ConnectionRequest::parse(&opening).map_err(|error| stranger(&error))
}

/// Moves at most `missing` bytes from `stream` to the end of `into`; 0 = end of the stream.
pub(super) async fn take<S: AsyncBufRead + Unpin>(
    stream: &mut S,
    missing: usize,
    into: &mut Vec<u8>,
) -> io::Result<usize> {
    let ready = stream.fill_buf().await?;
    let taken = ready.len().min(missing);
    into.extend_from_slice(ready.get(..taken).unwrap_or(ready));
    stream.consume(taken);
    Ok(taken)
}

fn stranger(error: &OpeningError) -> Ended {
    let reason = match error {
        OpeningError::Http => EndReason::Http,
        OpeningError::TlsHello => EndReason::TlsBeforeX224,
        OpeningError::Ssh => EndReason::Ssh,
        OpeningError::Garbage(_) => EndReason::NotRdp,
        OpeningError::TooLong(_) => EndReason::X224Oversized,
        OpeningError::NotARequest(_) => EndReason::X224NotARequest,
        OpeningError::Malformed(_) => EndReason::X224Malformed,
    };
    Ended::new(reason, error.to_string())
}

/// The security protocol of the client's leg: of those in `allowed`, the first that the client offers. With `nobody` there
/// is no password and no ticket, so NLA could only fail: then it is the last resort.
///
/// # Errors
/// What the client insists on.
pub(super) fn choose_security(
    request: &ConnectionRequest,
    allowed: &[ClientSecurity],
    nobody: bool,
) -> Result<u32, Ended> {
    let protocols = request.protocols();
    if request
        .negotiation
        .is_some_and(|negotiation| negotiation.wants_delegated_credentials())
    {
        return Err(Ended::new(
            EndReason::ClientRestrictedAdmin,
            "client asks for Restricted Admin or Remote Credential Guard, which a gateway can't pass on",
        ));
    }
    let offered = |security: &ClientSecurity| match security {
        ClientSecurity::Nla => [protocol::HYBRID_EX, protocol::HYBRID]
            .into_iter()
            .find(|protocol| protocols & protocol != 0),
        ClientSecurity::Tls => Some(protocol::SSL).filter(|protocol| protocols & protocol != 0),
    };
    let possible: Vec<u32> = allowed.iter().filter_map(offered).collect();
    let tls = possible.iter().find(|protocol| **protocol == protocol::SSL);
    if let Some(chosen) = tls.filter(|_| nobody).or(possible.first()) {
        return Ok(*chosen);
    }
    let offers = protocol::names(protocols);
    let (reason, detail) = if !allowed.contains(&ClientSecurity::Tls) {
        (
            EndReason::ClientWithoutNla,
            format!("client offers no NLA (it offers {offers}), which gateway.client_security wants"),
        )
    } else if protocols & (protocol::HYBRID | protocol::HYBRID_EX) != 0 {
        (
            EndReason::ClientRequiresNla,
            format!("client insists on NLA (it offers {offers}), which gateway.client_security leaves out"),
        )
    } else {
        (
            EndReason::ClientWithoutTls,
            format!("client offers no TLS (it offers {offers})"),
        )
    };
    Err(Ended::new(reason, detail))
}

/// What a client is told in place of the connection confirm; `None` = it is not worth an answer.
fn refusal(reason: EndReason) -> Option<Vec<u8>> {
    /// X.224 reasons of a disconnect request (ITU-T X.224 13.5.3).
    const NOT_ATTACHED: u8 = 2;
    const ADDRESS_UNKNOWN: u8 = 3;
    match reason {
        EndReason::ClientRequiresNla | EndReason::ClientWithoutTls => Some(connection_failure(failure::SSL_REQUIRED)),
        EndReason::ClientWithoutNla => Some(connection_failure(failure::HYBRID_REQUIRED)),
        EndReason::ClientRestrictedAdmin => Some(connection_failure(failure::INCONSISTENT_FLAGS)),
        EndReason::DesktopRequiresNla => Some(connection_failure(failure::HYBRID_REQUIRED)),
        EndReason::DesktopWithoutTls => Some(connection_failure(failure::SSL_NOT_ALLOWED)),
        // None of the negotiation failures means "not there"; X.224 itself has words for it.
        EndReason::DesktopNotNamed | EndReason::DesktopUnknown => Some(disconnect_request(ADDRESS_UNKNOWN)),
        EndReason::AddressBlocked
        | EndReason::DesktopUnreachable
        | EndReason::DesktopConnectTimeout
        | EndReason::DesktopNotRdp
        | EndReason::DesktopNegotiation
        | EndReason::DesktopTlsFailed
        | EndReason::DesktopUntrusted
        | EndReason::DesktopPinMismatch
        | EndReason::GatewayShutdown
        | EndReason::Internal => Some(disconnect_request(NOT_ATTACHED)),
        _ => None,
    }
}

fn disconnect_request(reason: u8) -> Vec<u8> {
    vec![3, 0, 0, 11, 6, 0x80, 0, 0, 0x12, 0x34, reason]
}

/// Tells a client that has sent its request why it gets no confirm.
pub(super) async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, reason: EndReason) {
    let Some(pdu) = refusal(reason) else { return };
    linger(stream, &[&pdu]).await;
}

/// Says the last words, closes, and gives the peer the time to read them.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, words: &[&[u8]]) {
    let tell = async {
        for word in words {
            stream.write_all(word).await?;
        }
        stream.flush().await?;
        stream.shutdown().await?;
        drain(stream).await
    };
    // The session has its end already; a peer that does not listen changes nothing.
    let _ = tokio::time::timeout(LINGER, tell).await;
}

/// Reads until the peer has closed too: closing with unread bytes makes the kernel send a reset, which can overtake
/// what we have just said.
pub(super) async fn drain<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<()> {
    let mut scratch = vec![0; 4096];
    while stream.read(&mut scratch).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use deskreel_rdp::wire::x224::{ConnectionConfirm, connection_request};
    use tokio::io::BufReader;

    use super::*;

    async fn opening(bytes: &[u8]) -> Result<ConnectionRequest, Ended> {
        read_opening(&mut BufReader::new(bytes)).await
    }

    async fn reason(bytes: &[u8]) -> EndReason {
        opening(bytes).await.unwrap_err().reason
    }

    #[tokio::test]
    async fn every_stranger_has_its_own_reason() {
        assert_eq!(reason(b"").await, EndReason::PortScan);
        assert_eq!(reason(b"GET / HTTP/1.1\r\n\r\n").await, EndReason::Http);
        assert_eq!(reason(&[0x16, 3, 1, 2, 0, 1, 0]).await, EndReason::TlsBeforeX224);
        assert_eq!(reason(b"SSH-2.0-scan\r\n").await, EndReason::Ssh);
        assert_eq!(reason(&[0xFF; 16]).await, EndReason::NotRdp);
        assert_eq!(reason(&[3, 0]).await, EndReason::X224Truncated);
        assert_eq!(reason(&[3, 0, 0xFF, 0xFF, 6]).await, EndReason::X224Oversized);
        assert_eq!(reason(&[3, 0, 0, 5, 6]).await, EndReason::X224Malformed);
        assert_eq!(
            reason(&[3, 0, 0, 11, 6, 0xD0, 0, 0, 0, 0, 0]).await,
            EndReason::X224NotARequest
        );
        let whole = connection_request(protocol::SSL, Some("anna"));
        assert_eq!(reason(&whole[..whole.len() - 1]).await, EndReason::X224Truncated);
    }

    #[tokio::test]
    async fn nothing_behind_the_request_is_taken() {
        let mut bytes = connection_request(protocol::SSL | protocol::HYBRID, Some("anna"));
        bytes.extend_from_slice(&[0x16, 3, 1]);
        let mut stream = BufReader::new(bytes.as_slice());
        let request = read_opening(&mut stream).await.unwrap();
        assert_eq!(request.cookie.as_deref(), Some("anna"));
        assert_eq!(stream.buffer(), [0x16, 3, 1]);
        assert_eq!(choose_security(&request, &ALL, false).unwrap(), protocol::HYBRID);
    }

    const ALL: [ClientSecurity; 2] = [ClientSecurity::Nla, ClientSecurity::Tls];

    #[tokio::test]
    async fn the_first_that_the_client_offers() {
        let choose = async |protocols, allowed: &[ClientSecurity], nobody| {
            let request = opening(&connection_request(protocols, None)).await.unwrap();
            choose_security(&request, allowed, nobody)
        };
        let (ssl, hybrid, ex) = (protocol::SSL, protocol::HYBRID, protocol::HYBRID_EX);
        for (protocols, nobody, chosen) in [
            (ssl | hybrid | ex, false, ex),
            (ssl | hybrid, false, hybrid),
            (ssl, false, ssl),
            (ssl | hybrid | ex, true, ssl),
            (hybrid, true, hybrid),
        ] {
            assert_eq!(choose(protocols, &ALL, nobody).await.unwrap(), chosen, "{protocols:#x}");
        }
        let reversed = [ClientSecurity::Tls, ClientSecurity::Nla];
        assert_eq!(choose(ssl | hybrid, &reversed, false).await.unwrap(), ssl);
        let ended = choose(ssl, &[ClientSecurity::Nla], false).await.unwrap_err();
        assert_eq!(ended.reason, EndReason::ClientWithoutNla);
        let told = ConnectionConfirm::parse(&refusal(ended.reason).unwrap()).unwrap();
        assert_eq!(told, ConnectionConfirm::Failure(failure::HYBRID_REQUIRED));
    }

    #[tokio::test]
    async fn security_refusals() {
        for (protocols, expected) in [
            (protocol::HYBRID, EndReason::ClientRequiresNla),
            (protocol::HYBRID | protocol::HYBRID_EX, EndReason::ClientRequiresNla),
            (protocol::STANDARD, EndReason::ClientWithoutTls),
            (protocol::RDSTLS, EndReason::ClientWithoutTls),
        ] {
            let request = opening(&connection_request(protocols, None)).await.unwrap();
            let ended = choose_security(&request, &[ClientSecurity::Tls], false).unwrap_err();
            assert_eq!(ended.reason, expected);
            let told = ConnectionConfirm::parse(&refusal(ended.reason).unwrap()).unwrap();
            assert_eq!(told, ConnectionConfirm::Failure(failure::SSL_REQUIRED));
        }
    }
}
