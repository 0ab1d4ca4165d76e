//! The peers work with each other before anything of ours stands between them.

use peers::Peers;
use peers::client::Client;
use peers::desktop::{Shadow, USER, Xrdp};

#[test]
fn xfreerdp_reaches_xrdp_directly() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("xfreerdp_reaches_xrdp_directly") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let xrdp = Xrdp::start(dir.path())?;
    let client = Client::start(dir.path(), "direct", xrdp.port, USER, &[])?;
    client.display.wait_painted(8)?;
    let before = client.display.wait_settled()?;
    client.click(300, 300)?;
    client.type_text("echo hello")?;
    client.key("Return")?;
    client
        .display
        .wait_changed(&before, 100, "the typed words on the screen")
}

#[test]
fn xfreerdp_reaches_shadow_directly() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("xfreerdp_reaches_shadow_directly") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let shadow = Shadow::start(dir.path(), &[])?;
    let client = Client::start(dir.path(), "direct", shadow.port, USER, &["/rfx"])?;
    client.display.wait_painted(8)?;
    Ok(())
}
