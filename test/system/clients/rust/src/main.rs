//! An MCP client of rmcp, the official Rust SDK: `real-client URL SECONDS (TOOL ARGUMENTS)...`. Prints the
//! address where a person is needed, waits for them at its callback, lists tools, calls each one, and again after
//! SECONDS, when its token has expired.

use std::{env, error::Error, time::Duration};

use rmcp::{
    ServiceExt,
    model::CallToolRequestParams,
    transport::{
        StreamableHttpClientTransport,
        auth::{AuthClient, AuthorizationRequest, OAuthState},
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let (url, seconds) = (arguments[1].clone(), arguments[2].parse()?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);

    let mut state = OAuthState::new(&url, None).await?;
    state
        .start_authorization(
            AuthorizationRequest::new(format!("{origin}/callback")).with_client_name("Rust SDK"),
        )
        .await?;
    println!("{}", state.get_authorization_url().await?);
    let callback = loop {
        let (mut browser, _) = listener.accept().await?;
        let mut bytes = vec![0; 16384];
        let count = browser.read(&mut bytes).await?;
        let request = String::from_utf8_lossy(&bytes[..count]).into_owned();
        browser
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nDone")
            .await?;
        let path = request.split(' ').nth(1).unwrap_or_default();
        if path.contains("state=") {
            break format!("{origin}{path}");
        }
    };
    state.handle_callback_url(&callback).await?;
    let manager = state.into_authorization_manager().ok_or("not authorized")?;
    let transport = StreamableHttpClientTransport::with_client(
        AuthClient::new(reqwest::Client::default(), manager),
        StreamableHttpClientTransportConfig::with_uri(url),
    );
    let client = ().serve(transport).await?;
    let tools = client.list_all_tools().await?;
    let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    println!("tools {}", names.join(" "));
    for wait in [0, seconds] {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        for call in arguments[3..].chunks(2) {
            let input = serde_json::from_str(&call[1])?;
            let params = CallToolRequestParams::new(call[0].clone()).with_arguments(input);
            let answer = client.call_tool(params).await?;
            let text = answer.content[0].as_text().ok_or("no text")?;
            let words: Vec<_> = text.text.split_whitespace().collect();
            println!("answered {} {}", call[0], words.join(" "));
        }
    }
    client.cancel().await?;
    Ok(())
}
