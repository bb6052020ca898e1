using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using NUnit.Framework;

namespace Sgaps.Client.Tests
{
    /// <summary>The real socket, against a server that is the test.</summary>
    public class TransportTests
    {
        private const int PatienceMs = 30000;

        private readonly List<Socket> _accepted = new List<Socket>();
        private TcpListener _server;
        private ClientWebSocketTransport _transport;

        [SetUp]
        public void SetUp()
        {
            _server = new TcpListener(IPAddress.Loopback, 0);
            _server.Start();
        }

        [TearDown]
        public void TearDown()
        {
            _transport.Dispose();
            foreach (var socket in _accepted) socket.Close();
            _accepted.Clear();
            _server.Stop();
        }

        [Test]
        public void AServerThatAnswersNoAttemptIsGivenAFewOnly()
        {
            // One that is given up before it waits for the answer does not hang.
            while (Reaches() && _accepted.Count < 100)
            {
                Request(Accepted());
                Thread.Sleep(20);
                _transport.Dispose();
            }
            Assert.That(_transport.CloseReason, Is.EqualTo("not tried: 4 earlier attempts are still not answered"));
            foreach (var socket in _accepted) socket.Close();
            Until(() => Reaches());
        }

        [Test]
        public void WhatWasSentBeforeTheEndStillArrives()
        {
            var socket = Opened();
            var bytes = Send(50, 600);
            _transport.Dispose();
            Assert.That(Received(socket), Is.EqualTo(bytes + 50 * 8), "each with its head and its mask");
            Until(() => _transport.State == TransportState.Closed);
        }

        [Test]
        public void WhyTheServerClosesIsTold()
        {
            var reason = Encoding.ASCII.GetBytes("shutting_down");
            Opened().Send(new[] { new byte[] { 0x88, (byte)(2 + reason.Length), 1001 >> 8, 1001 & 0xff }, reason }.SelectMany(bytes => bytes).ToArray());
            Until(() => _transport.State == TransportState.Closed);
            Assert.That(_transport.CloseReason, Is.EqualTo("the server closed the connection: 1001 shutting_down"));
        }

        [Test]
        public void AServerThatReadsNothingIsNotWaitedForAtTheEnd()
        {
            Opened();
            Send(32, 1024 * 1024);
            _transport.Dispose();
            Until(() => _transport.State == TransportState.Closed);
        }

        [TestCase(1000000, 8, Description = "a mebibyte of memory each")]
        [TestCase(1, 2048, Description = "4 KiB of memory each")]
        public void AServerThatSendsMoreThanIsReadIsLeft(int bytes, int most)
        {
            var socket = Opened();
            // What is read makes room.
            for (var i = 0; i < 3; i++)
            {
                Say(socket, bytes, most / 2);
                for (var read = 0; read < most / 2; read++) Until(Receives);
            }
            Say(socket, bytes, most + 1);
            Until(() => _transport.State == TransportState.Closed);
            Assert.That(_transport.CloseReason, Is.EqualTo("the server sends more than the game reads: more than 8388608 bytes wait"));
            for (var i = 0; i < most; i++) Assert.That(Receives(), "what came before can still be read");
            Assert.That(Receives(), Is.False);
        }

        private bool Receives()
        {
            TransportMessage message;
            return _transport.TryReceive(out message);
        }

        // So many binary messages of so many bytes, in one write.
        private static void Say(Socket socket, int bytes, int messages)
        {
            var said = new List<byte>();
            for (var i = 0; i < messages; i++)
            {
                said.AddRange(new byte[] { 0x82, 127, 0, 0, 0, 0, (byte)(bytes >> 24), (byte)(bytes >> 16), (byte)(bytes >> 8), (byte)bytes });
                said.AddRange(new byte[bytes]);
            }
            socket.Send(said.ToArray());
        }

        private void Connect()
        {
            _transport = new ClientWebSocketTransport();
            _transport.Connect(new Uri("ws://" + _server.LocalEndpoint + "/ws/stream"), new[] { "sgaps.v1.binary" });
        }

        // Whether an attempt gets through to the server.
        private bool Reaches()
        {
            Connect();
            Until(() => _transport.State == TransportState.Closed || _server.Pending());
            return _server.Pending();
        }

        private Socket Opened()
        {
            Connect();
            var socket = Accepted();
            socket.Send(Encoding.ASCII.GetBytes(Answer(Request(socket))));
            Until(() => _transport.State == TransportState.Open);
            return socket;
        }

        // So many messages with pictures of so many bytes; how many bytes in all.
        private int Send(int messages, int bytes)
        {
            var message = new MessageBuffer();
            new BinaryCodec().EncodeKeyframe(new KeyframeMessage { Encoding = PictureEncoding.Png, Picture = new byte[bytes] }, message);
            for (var i = 0; i < messages; i++) _transport.Send(message);
            return messages * message.Count;
        }

        private Socket Accepted()
        {
            Until(() => _server.Pending());
            var socket = _server.AcceptSocket();
            socket.ReceiveTimeout = PatienceMs;
            _accepted.Add(socket);
            return socket;
        }

        private static string Request(Socket socket)
        {
            var request = new StringBuilder();
            var next = new byte[1];
            while (!request.ToString().EndsWith("\r\n\r\n", StringComparison.Ordinal) && socket.Receive(next) == 1) request.Append((char)next[0]);
            return request.ToString();
        }

        private static string Answer(string request)
        {
            const string name = "Sec-WebSocket-Key: ";
            var at = request.IndexOf(name, StringComparison.Ordinal) + name.Length;
            var key = request.Substring(at, request.IndexOf('\r', at) - at) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
            var accept = Convert.ToBase64String(SHA1.Create().ComputeHash(Encoding.ASCII.GetBytes(key)));
            return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + "\r\n\r\n";
        }

        // Bytes until the other side ends.
        private static int Received(Socket socket)
        {
            var bytes = new byte[4096];
            var received = 0;
            for (var count = socket.Receive(bytes); count > 0; count = socket.Receive(bytes)) received += count;
            return received;
        }

        private static void Until(Func<bool> isSo)
        {
            var clock = Stopwatch.StartNew();
            while (!isSo())
            {
                Assert.That(clock.ElapsedMilliseconds, Is.LessThan(PatienceMs));
                Thread.Sleep(2);
            }
        }
    }
}
