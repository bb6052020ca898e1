using System;
using NUnit.Framework;

namespace Sgaps.Client.Tests
{
    public class CollectorAndMonitorTests
    {
        [Test]
        public void ValuesComeInTheirOrderAndTheFrameBeginsAnew()
        {
            var collector = new StateVectorCollector();
            for (var i = 0; i < 40; i++) collector.AddValue(i);
            Assert.That(collector.ToArray().Length, Is.EqualTo(40));
            var state = new float[0];
            Assert.That(collector.MoveTo(ref state), Is.EqualTo(40));
            Assert.That(state[39], Is.EqualTo(39));
            Assert.That(collector.Count, Is.EqualTo(0));
            collector.AddValue(5);
            var before = state;
            Assert.That(collector.MoveTo(ref state), Is.EqualTo(1));
            Assert.That(ReferenceEquals(before, state), "memory is used again");
            collector.AddValue(1);
            collector.Clear();
            Assert.That(collector.ToArray(), Is.Empty);
        }

        [Test]
        public void WhatIsNoNumberIsMissing()
        {
            var collector = new StateVectorCollector();
            collector.AddValue(float.NaN);
            collector.AddValue(float.NegativeInfinity);
            collector.AddMissing();
            Assert.That(collector.ToArray(), Is.EqualTo(new[] { -999f, -999f, -999f }));
        }

        [Test]
        public void AFrameHasAtMostSoManyValues()
        {
            var collector = new StateVectorCollector();
            for (var i = 0; i < ProtocolLimits.MaxStateDim; i++) collector.AddValue(0);
            Assert.Throws<InvalidOperationException>(() => collector.AddValue(0));
        }

        [Test]
        public void TheMonitorAveragesTheNewestFrames()
        {
            double nowSecs = 0;
            var monitor = new PerformanceMonitor(() => nowSecs);
            Assert.That(monitor.FramesPerSec, Is.EqualTo(0));
            for (var frame = 0; frame < 200; frame++)
            {
                nowSecs = frame < 100 ? frame : 100 + (frame - 100) * 0.1;
                monitor.BookSent(frame);
                monitor.BookCapture(frame < 100 ? 9 : 2);
            }
            Assert.That(monitor.FramesPerSec, Is.EqualTo(10).Within(1e-6));
            Assert.That(monitor.CaptureMs, Is.EqualTo(2).Within(1e-9));
        }

        [Test]
        public void TheRateFallsInAnOutageAndIsRightAgainAfterIt()
        {
            double nowSecs = 0;
            var monitor = new PerformanceMonitor(() => nowSecs);
            for (var frame = 0; frame < 200; frame++)
            {
                nowSecs = frame * 0.1;
                monitor.BookSent(frame);
            }
            nowSecs += 5;
            Assert.That(monitor.FramesPerSec, Is.EqualTo(5).Within(0.2));
            nowSecs += 55;
            Assert.That(monitor.FramesPerSec, Is.EqualTo(0));
            monitor.BookSent(200);
            Assert.That(monitor.FramesPerSec, Is.EqualTo(0));
            nowSecs += 0.1;
            monitor.BookSent(201);
            Assert.That(monitor.FramesPerSec, Is.EqualTo(10).Within(1e-6));
        }

        [Test]
        public void ARateOfMoreFramesThanAreKeptIsTold()
        {
            double nowSecs = 0;
            var monitor = new PerformanceMonitor(() => nowSecs);
            for (var frame = 0; frame < 1000; frame++)
            {
                nowSecs = frame * 0.004;
                monitor.BookSent(frame);
            }
            Assert.That(monitor.FramesPerSec, Is.EqualTo(250).Within(1e-6));
        }

        [Test]
        public void LatencyIsFromAFrameToItsAnswer()
        {
            var nowSecs = 1.0;
            var monitor = new PerformanceMonitor(() => nowSecs);
            monitor.BookSent(0);
            nowSecs = 1.1;
            monitor.BookSent(1);
            monitor.BookAnswer(-1);
            monitor.BookAnswer(7);
            Assert.That(monitor.LatencyMs, Is.EqualTo(0));
            nowSecs = 1.2;
            monitor.BookAnswer(0);
            nowSecs = 1.4;
            monitor.BookAnswer(1);
            Assert.That(monitor.LatencyMs, Is.EqualTo(250).Within(1e-6));
            monitor.Reset();
            Assert.That(monitor.LatencyMs, Is.EqualTo(0));
            Assert.That(monitor.FramesPerSec, Is.EqualTo(0));
        }

        [Test]
        public void ThePacerKeepsTheServersRate()
        {
            var pacer = new FramePacer();
            var taken = 0;
            for (var frame = 0; frame < 600; frame++) if (pacer.TakeIfDue(frame / 60.0, 25)) taken++;
            Assert.That(taken, Is.EqualTo(250).Within(2), "ten seconds of 60 frames at 25 a second");
        }

        [Test]
        public void ThePacerDoesNotMakeUpForAPause()
        {
            var pacer = new FramePacer();
            pacer.TakeIfDue(0, 10);
            var taken = 0;
            for (var i = 0; i < 100; i++) if (pacer.TakeIfDue(100 + i * 0.001, 10)) taken++;
            Assert.That(taken, Is.LessThanOrEqualTo(2));
        }
    }
}
