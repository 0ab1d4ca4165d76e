//! The peers work with each other before anything of ours stands between them.

use std::time::Duration;

use peers::Peers;
use peers::client::Client;
use peers::desktop::{Shadow, USER, Xrdp};
use peers::process::wait_for;

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
    wait_for(Duration::from_secs(60), "the typed words on the screen", || {
        Ok(client.display.screenshot()?.differing(&before, 0) > 100)
    })
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
